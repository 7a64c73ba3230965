"""What tests of all rooms share. A test that takes `architecture` holds for every encoder type."""

import pytest

from span_electra.config import ARCHITECTURES


@pytest.fixture(params=ARCHITECTURES)
def architecture(request, monkeypatch):
    """Each encoder type in turn: what `small_config`, and all examples made with it, are of."""
    monkeypatch.setattr("model_examples.ARCHITECTURE", request.param)
    return request.param
