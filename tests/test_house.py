"""The rules of the house, so that nobody has to remember them. Run: pytest tests/test_house.py"""

import ast
import json
import re
import subprocess
import tokenize
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "span_electra"
SCRIPTS = sorted(path for path in ROOT.glob("*_SE.py")) + [ROOT / "joint_train_span_electra.py"]
MODULES = sorted(PACKAGE.rglob("*.py"))
BESIDE = [*sorted(ROOT.glob("tests/**/*.py")), *sorted(ROOT.glob("benchmarks/*.py")), ROOT / "argument.py"]
# What a room may import of the package, besides itself and the ground.
GROUND = {
    *("accelerators", "batch", "commandline", "compose", "config", "data_config", "elsewhere", "errors"),
    *("counted", "cores", "progress", "locks", "machine_code", "random_keys", "schema", "storage"),
    *("utf8", "console", "plain_yaml"),
}
BELOW = {"text", "features", "model", "training", "hub"}
MAY_IMPORT = {
    "text": set(),
    "features": {"text"},
    "model": set(),
    "training": set(),
    "hub": {"text", "model", "training"},
    "pretraining": BELOW | {"report"},
    "finetuning": BELOW,
    "inference": BELOW | {"finetuning", "report"},
    "evaluation": BELOW | {"finetuning", "inference", "pretraining", "report"},
    "report": BELOW,
}
# What is called -> the modules of docs/architecture.md that may; storage's own are in test_storage.py.
ONE_PLACE = {
    "cpu_count": {"cores"},
    "from_pretrained": {"text/own_tokenizer", "hub/networks"},
    "load_file": {"training/checkpoint"},
    "save_file": {"training/checkpoint", "hub/folders"},
    "torch.device": {"accelerators", "training/devices", "training/parallel", "model/init"},
    "get_context": {"text/workers", "training/launch"},
    "ProcessPoolExecutor": set(),  # waits for ever where a worker is killed in sending (cpython #94777)
}
LOOP_MAKERS = ("njit", "compiled", "inlined")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
LEAST_COMMENTS = 0.08  # lines with a comment to a line of code; what is read with pleasure has 0.08 to 0.2


def trees():
    return [(path, ast.parse(path.read_text())) for path in MODULES]


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_rooms_import_only_the_rooms_below_them():
    for path, tree in trees():
        room = path.relative_to(PACKAGE).parts[0]
        for name in imported(tree):
            if not name.startswith("span_electra."):
                continue
            other = name.split(".")[1]
            assert other in GROUND | {room} | MAY_IMPORT.get(room, set()), f"{path.name} imports {name}"


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """A circle of `graph`, or nothing. Example: a -> b -> a gives [a, b, a]"""
    done, path = set(), []

    def visit(node: str) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for other in sorted(graph.get(node, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return []

    return next((found for node in sorted(graph) if (found := visit(node))), [])


def module_graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports anywhere, late imports included."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in trees()}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for name, tree in names.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                # `from room import module` names the module last.
                for full in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    graph[name] |= {full} & names.keys() - {name}
    return graph


def test_no_modules_import_each_other_in_a_circle():
    graph = module_graph()
    assert not circle_in(graph)


def test_no_rooms_import_each_other_in_a_circle():
    rooms: dict[str, set[str]] = {}
    for module, others in module_graph().items():
        room = module.split(".")[1]
        rooms.setdefault(room, set()).update({name.split(".")[1] for name in others} - {room})
    assert not circle_in(rooms)


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}})


def test_the_package_imports_no_script_and_not_the_arguments():
    scripts = {path.stem for path in SCRIPTS} | {"argument"}
    for path, tree in trees():
        assert not imported(tree) & scripts, path.name


def test_text_and_features_know_no_torch():
    for path, tree in trees():
        if path.parent.name in ("text", "features"):
            assert not any(name.split(".")[0] == "torch" for name in imported(tree)), path.name


def test_no_function_of_the_package_takes_args():
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert "args" not in [argument.arg for argument in node.args.args], (
                    f"{path.name}: {node.name}"
                )


def test_nothing_is_unpickled_and_nothing_loads_quietly():
    # Only calls count: a comment may say why a thing is not done.
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert not called.startswith("pickle."), f"{path.name}: {called}"
            assert called != "torch.load" or words.get("weights_only") == "True", path.name
            assert words.get("strict") != "False" or called == "zip", f"{path.name}: {called} strict=False"


def test_float64_is_made_on_the_cpu():
    """Apple's GPUs have none."""
    for path, _ in trees():
        assert ".double().cpu()" not in path.read_text(), f"{path.name}: write .cpu().double()"


def test_one_idea_has_one_place():
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                allowed = ONE_PLACE.get(called, ONE_PLACE.get(called.rpartition(".")[2]))
                module = str(path.relative_to(PACKAGE).with_suffix(""))
                assert allowed is None or module in allowed, f"{module}: {called} has its place in {allowed}"


def test_files_and_functions_keep_their_size():
    for path in [*MODULES, *SCRIPTS, *BESIDE]:
        tree = ast.parse(path.read_text())
        lines = path.read_text().count("\n")
        assert lines <= MAX_FILE_LINES, f"{path.name} has {lines} lines; give a part of it a room of its own"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"


def code_and_comments(path: Path, tree: ast.AST) -> tuple[int, int, int]:
    """Lines that are no blank and no comment alone; the docstrings' among them; lines with a comment."""
    with path.open("rb") as file:
        comments = {
            token.start[0] for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT
        }
    prose = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            prose |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(path.read_text().splitlines(), start=1)
    code = [number for number, line in lines if line.strip() and line.strip()[0] != "#"]
    return len(code), len(prose & {*code}), len(comments)


def test_reasons_stand_beside_what_is_hard():
    rooms: dict[str, list[tuple[int, int, int]]] = {}
    for path, tree in trees():
        room = path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else "the ground"
        rooms.setdefault(room, []).append(code_and_comments(path, tree))
    for room, counts in rooms.items():
        code, prose, comments = map(sum, zip(*counts, strict=True))
        assert comments >= LEAST_COMMENTS * (code - prose), (
            f"{room}: {comments} comments to {code - prose} lines of code; say why beside what is hard"
        )
    # Of all rooms together even where docstrings count as code.
    code, _, comments = map(sum, zip(*chain.from_iterable(rooms.values()), strict=True))
    assert comments >= LEAST_COMMENTS * code, f"{comments} comments to {code} lines, docstrings among them"


def test_long_calls_name_their_arguments():
    # torch's Function.apply takes none by name.
    def is_apply(call):
        return isinstance(call.func, ast.Attribute) and call.func.attr == "apply"

    long = [
        f"{path.name}:{node.lineno}"
        for path in [*MODULES, *SCRIPTS, *BESIDE]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and len(node.args) > 5 and not is_apply(node)
    ]
    assert len(long) <= 1, long


def test_init_files_are_empty_and_nothing_is_named_utils():
    for path in MODULES:
        if path.name == "__init__.py":
            assert not path.read_text().strip()
        assert path.stem not in {"utils", "common", "helpers"}


def test_every_module_says_what_it_is():
    for path, tree in trees():
        if path.name != "__init__.py":
            assert ast.get_docstring(tree), path.name


def test_every_public_function_has_type_hints():
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                if any(name in ast.unparse(d) for d in node.decorator_list for name in LOOP_MAKERS):
                    continue  # numba infers the types
                bare = [argument.arg for argument in node.args.args if argument.annotation is None]
                assert not bare, f"{path.name}: {node.name}({', '.join(bare)})"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_thin_and_import_late(script):
    tree = ast.parse(script.read_text())
    assert ast.get_docstring(tree)
    at_import = {name.split(".")[0] for node in tree.body for name in imported(node)} if tree.body else set()
    assert not at_import & {"torch", "transformers", "pyarrow", "numba"}, (
        "imports at the top slow down --help"
    )


def test_every_module_has_its_test_file():
    # The ground is exercised by all tests; a run's parts only mean something together, in test_loop.py.
    untested = {
        "batch",
        "data_config",
        "evaluation/arguments",
        "finetuning/arguments",
        "inference/arguments",
        "model/batch",
        "pretraining/arguments",
        "config",
        "pretraining/experiment",
        "finetuning/settings",
        "pretraining/settings",
        "training/experiment",
        "training/run",
        "training/run_folder",
    }
    for path in MODULES:
        module = path.relative_to(PACKAGE)
        if path.name != "__init__.py" and str(module.with_suffix("")) not in untested:
            assert (ROOT / "tests" / module.parent / f"test_{path.name}").exists(), (
                f"{module} has no test file"
            )


def test_the_architecture_names_files_and_functions_that_are_there():
    page = (ROOT / "docs/architecture.md").read_text()
    for function, name in re.findall(r"(?:`(\w+)` in )?`([\w/]+\.py)`", page):
        path = next((base / name for base in (PACKAGE, ROOT) if (base / name).exists()), None)
        assert path, f"docs/architecture.md: there is no {name}"
        there = re.search(rf"(def|class) {function}\b", path.read_text())
        assert not function or there, f"{name} has no {function}"


def test_tests_that_pages_name_are_there():
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(r"\btest_\w+\.py", page.read_text()))
        assert named <= there, f"{page.name}: there is no {' '.join(sorted(named - there))}"


def test_default_json_holds_the_defaults():
    from argument import JointTrainingConfig
    from span_electra.compose import dump

    assert json.loads((ROOT / "configs/default.json").read_text()) == json.loads(dump(JointTrainingConfig()))


def test_the_readme_names_every_file_at_the_top():
    readme = (ROOT / "README.md").read_text()
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in {name.split("/")[0] for name in tracked.splitlines()} - {".gitignore", ".ci", "README.md"}:
        assert re.search(rf"\b{re.escape(name)}\b", readme), f"README.md does not mention {name}"
