"""A damaged GGUF file is refused in one line, or becomes a model whose files fit together.

`python -m benchmarks.fuzz_gguf` does the same with thousands of files.
"""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxgate.engine.model_directory import prepare_model
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.llama import LlamaFile
from tests.fakes.gguf_damage import DAMAGES, Damage, count_header_bytes, write_sources
from tests.oracles.prepared import check_prepared


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write sound models."""
    return write_sources(tmp_path_factory.mktemp("sources"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(index=st.integers(0, 5), damage=st.sampled_from(DAMAGES), seed=st.integers(0, 2**32 - 1))
def test_damaged_file(sources: list[Path], index: int, damage: Damage, seed: int) -> None:
    """Whatever the damage, nothing is left behind unless the model is complete."""
    source = sources[index]
    content = bytearray(source.read_bytes())
    damage(random.Random(seed), content, count_header_bytes(source))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in sources[3:]:
            (folder / part.name).symlink_to(part)
        (folder / source.name).unlink(missing_ok=True)
        (folder / source.name).write_bytes(content)
        out = folder / "models" / "out"
        refusal = None
        try:
            prepare_model(
                LlamaFile(folder / source.name), out, device="cpu", progress=lambda *_: None
            )
        except ModelFileError as error:
            refusal = str(error)
        if refusal is None:
            check_prepared(out)
        else:
            assert "\n" not in refusal
            assert not out.parent.exists() or not list(out.parent.iterdir())


@pytest.mark.parametrize("index", range(6))
def test_sound_file(sources: list[Path], index: int, tmp_path: Path) -> None:
    """Without damage, each of the models is accepted."""
    prepare_model(
        LlamaFile(sources[index]), tmp_path / "out", device="cpu", progress=lambda *_: None
    )
    assert check_prepared(tmp_path / "out")["config.json"]["num_hidden_layers"] == 2
