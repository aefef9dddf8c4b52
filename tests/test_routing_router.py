"""The prompt router that comes with edgemoe: what it says, any input, and files that are damaged."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import edgemoe
from edgemoe import EdgeMoEError, ModelError, Router
from edgemoe.default_model import router_path
from edgemoe.routing.export import CHECKSUM, DESCRIPTION, checksum, stored_checksum
from test_routing_features import NASTY

DATA = router_path().read_bytes()


@pytest.fixture(scope="module")
def router() -> Router:
    return Router()


EXAMPLES = {
    "law": "My landlord refuses to return my deposit. Can I sue him in small claims court without a lawyer?",
    "finance": "Should I put my savings into index funds or pay off my mortgage first?",
    "healthcare": "I have had a sore throat and a fever for a week. Should I take antibiotics?",
    "code": "Write a Python function that reverses a linked list.",
    "maths": "Tom has 12 apples and buys 3 boxes with 8 apples each. How many apples does he have now?",
}


@pytest.mark.parametrize("domain", EXAMPLES)
def test_plain_prompts_get_their_domain(router: Router, domain: str) -> None:
    found = router.classify(EXAMPLES[domain])
    assert found.domain == domain
    assert found.unsafe_probability is not None
    assert found.unsafe_probability < 0.5


@pytest.mark.parametrize("prompt", ["jeg synes det er noget lort", "lol u mad bro", "The river flows north."])
def test_what_is_no_question_of_a_domain_is_out_of_distribution(router: Router, prompt: str) -> None:
    assert router.classify(prompt).domain not in EXAMPLES


@pytest.mark.parametrize(
    "prompt", [*NASTY.values(), "a" * 1_000_000, "\x00\xff" * 500_000, "😀" * 250_000], ids=lambda p: p[:5]
)
def test_any_input_has_an_answer(router: Router, prompt: str) -> None:
    found = router.classify(prompt)
    for scores in found.scores.values():
        assert sum(scores.values()) == pytest.approx(1)
        assert all(0 <= p <= 1 for p in scores.values())
    assert found.domain in (None, *found.domain_scores)
    assert found.strong_probability is not None
    assert 0 <= found.strong_probability <= 1


def test_bytes_are_refused(router: Router) -> None:
    with pytest.raises(EdgeMoEError, match="must be text, not bytes"):
        router.classify(b"bytes")


def test_threads_may_share_a_router(router: Router) -> None:
    expected = {text: router.logits(text) for text in EXAMPLES.values()}
    wrong = []

    def work() -> None:
        for _ in range(50):
            wrong.extend(text for text, logits in expected.items() if router.logits(text) != logits)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_file_is_small() -> None:
    assert len(DATA) < 4_000_000


def test_importing_edgemoe_does_not_import_onnxruntime() -> None:
    code = "import sys, edgemoe; edgemoe.__version__; sys.exit('onnxruntime' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert edgemoe.Router is Router


# Damage


def opened(folder: Path, data: bytes) -> Router:
    path = folder / "router.onnx"
    path.write_bytes(data)
    return Router(path)


def resealed(data: bytes) -> bytes:
    """With the checksum of what it now holds."""
    found = stored_checksum(data)
    assert found is not None
    return found[1].replace(b"0" * 32, checksum(found[1]).encode())


@pytest.mark.parametrize("size", [0, 1, 100, 10_000, len(DATA) // 2, len(DATA) - 200, len(DATA) - 1])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ModelError, match=r"router\.onnx"):
        opened(tmp_path, DATA[:size])


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    draw = random.Random(0)
    for place in [*(draw.randrange(len(DATA)) for _ in range(60)), *range(len(DATA) - 60, len(DATA))]:
        data = bytearray(DATA)
        data[place] ^= 1 << draw.randrange(8)
        with pytest.raises(ModelError, match=r"router\.onnx"):
            opened(tmp_path, bytes(data))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"format": 1', b'"format": 7', "has format 7"),
        (DESCRIPTION.encode(), DESCRIPTION.upper().encode(), "metadata has no readable"),
        (b'{"format"', b'["format"', "metadata has no readable"),
        (b'"hashing"', b'"hushing"', "incomplete metadata"),
        (b'"buckets"', b'"rackets"', "incomplete metadata"),
        (b'"heads"', b'"hoods"', "incomplete metadata"),
        (b'"labels"', b'"lapels"', "incomplete metadata"),
        (b'"shortest": 3', b'"shortest": 9', "character n-grams"),
        (b"MatMulInteger", b"MatMulIntegrr", "no usable ONNX file"),
        (b"logits", b"lotits", "no usable ONNX file|other"),
        (CHECKSUM.encode(), CHECKSUM.upper().encode(), "no edgemoe.checksum"),
    ],
)
def test_wrong_contents_with_a_right_checksum_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    changed = DATA.replace(old, new)
    assert changed != DATA
    with pytest.raises(EdgeMoEError, match=message):
        opened(tmp_path, changed if old == CHECKSUM.encode() else resealed(changed))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no router"):
        opened(tmp_path, random.Random(0).randbytes(1000))
    with pytest.raises(ModelError, match="cannot be read"):
        Router(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        Router(tmp_path)
