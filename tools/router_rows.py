"""The rows that the shipped prompt router is trained on, and prompts to calibrate with, from collected data sets.

    python tools/router_rows.py DATA_FOLDER --licence shipped -o rows.jsonl
    python tools/router_rows.py DATA_FOLDER --prompts -o models/prompts.jsonl

DATA_FOLDER has the files that models/router.md names. `--licence research` takes all of them, `shipped` only those
whose licence lets a model be passed on, `cleared` of these not even collections of forum posts. `--prompts` takes
those that `edgemoe route calibrate` uses when no others are named. Rows of the split test are never read.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

SHIPPED = {
    "Apache-2.0",
    "Apache-2.0/MIT",
    "CC BY 3.0",
    "CC BY 4.0",
    "CC BY 4.0 (MedQuAD)",
    "CC-BY-4.0*",
    "CC-BY-SA*",
    "CC-BY-SA-3.0",
    "MIT",
    "MIT (AdvBench)",
    "MIT (MMLU)",
    "PDDL-1.0*",
}
"""MIT* is decided by the file: RouterBench is MIT, the forum posts of the other repository are not cleared."""
FORUM_POSTS = {"PDDL-1.0*"}

SUBJECTS = {
    "law": "jurisprudence international_law",
    "finance": "professional_accounting econometrics high_school_macroeconomics high_school_microeconomics",
    "healthcare": "anatomy clinical_knowledge college_medicine medical_genetics professional_medicine virology "
    "nutrition human_aging",
    "maths": "abstract_algebra college_mathematics elementary_mathematics high_school_mathematics "
    "high_school_statistics",
    "code": "college_computer_science high_school_computer_science computer_security machine_learning",
    "": "human_sexuality professional_psychology business_ethics management marketing us_foreign_policy "
    "high_school_government_and_politics high_school_psychology",
}
"""Domains of MMLU's subjects; those of "" lie between domains, all others are general."""
SUBREDDITS = {
    "learnprogramming": "code",
    "programming": "code",
    "MachineLearning": "code",
    "statistics": "maths",
    "writing": "writing",
}
MT_BENCH = {"writing": "writing", "roleplay": "writing", "coding": "code", "math": "maths", "humanities": "general"}
UNSURE = {"mmlu_general", "wiki_sentences", "reddit_AskReddit", "reddit_NoStupidQuestions"}
"""Their label is often wrong, for they speak of anything: good to learn from on the whole, bad to be judged by."""
WRITING = re.compile(
    r"^\W*(please |can you |could you |help me )?"
    r"(write|compose|draft|create|generate|craft|give me|come up with|tell me)"
    r"\b.{0,60}\b(poem|haiku|story|essay|e-?mail|letter|blog|song|lyrics|speech|limerick|paragraph|dialogue|slogan|tweet|"
    r"review|article|script|joke|headline|novel|fable|post|toast|biography|ad|advertisement|rhyme|sonnet)\b",
    re.IGNORECASE,
)
BIG = {"llmrouter": (3, 4, 5), "routerbench": (2, 3, 4, 6, 7)}
SMALL = {"llmrouter": (0, 1, 2, 6, 7, 8), "routerbench": (0, 5, 8, 9, 10)}
"""Places in `scores` of models like the strong and like the weak one (routing_models_order.json)."""

Row = dict[str, Any]


def read(folder: Path, name: str, licence: str) -> Iterator[Row]:
    for line in (folder / name).read_text(encoding="utf-8").rstrip("\n").split("\n"):
        row = json.loads(line)
        if row["split"] in ("train", "dev") and allowed(row["license"], name, licence):
            yield row


def allowed(code: str, name: str, licence: str) -> bool:
    if licence == "research":
        return True
    if licence == "cleared" and code in FORUM_POSTS:
        return False
    return code in SHIPPED or (code == "MIT*" and name == "routing_routerbench.jsonl")


def labelled(row: Row, source: str, text: str | None = None, **labels: str | float | None) -> Row:
    known = {head: label for head, label in labels.items() if label is not None}
    found = {"text": text or row["text"], "labels": known, "source": source, "split": row["split"]}
    return found | ({"judged": False} if source in UNSURE else {})


def domain_rows(folder: Path, licence: str) -> Iterator[Row]:
    """Rows for the heads domain and unsafe."""
    for name in ("id.jsonl", "id_unseen.jsonl"):
        for row in read(folder, name, licence):
            if not row["source"].startswith("mmlu"):  # these come with the routing rows
                yield labelled(row, row["source"], domain=row["label"], unsafe=0)
    for row in read(folder, "background.jsonl", licence):
        yield labelled(row, row["source"], domain=_background(row), unsafe=0)
    for row in read(folder, "background_near.jsonl", licence):
        yield labelled(row, row["source"], domain="general", unsafe=0)
    for row in read(folder, "general_prompts.jsonl", licence):
        if row["source"] not in ("gsm8k_test", "code_alpaca_2k"):
            group = row["label"].partition("/")[2]
            domain = MT_BENCH.get(group) if row["source"] == "mt_bench" else None
            yield labelled(row, row["source"], domain=domain, unsafe=0)
    for row in read(folder, "safe_social.jsonl", licence):
        yield labelled(row, row["source"], domain="none", unsafe=0)
    for row in read(folder, "unsafe.jsonl", licence):
        domain = None if row["source"] == "advbench_behaviors" else "none"
        yield labelled(row, row["source"], domain=domain, unsafe=1)
    yield from _benchmark_questions(folder, licence)


def _background(row: Row) -> str:
    source = row["source"]
    if source == "wiki_sentences" or "_lang_" in source:
        return "none"
    if source in ("gsm8k_train_sample", "code_alpaca_2k"):
        return "maths" if source.startswith("gsm8k") else "code"
    if source.startswith("reddit_"):
        return SUBREDDITS.get(source.removeprefix("reddit_"), "general")
    return "writing" if WRITING.search(row["text"]) else "general"


def _benchmark_questions(folder: Path, licence: str) -> Iterator[Row]:
    """Questions of MMLU and others, without the answers to choose from."""
    subjects = {subject: domain for domain, names in SUBJECTS.items() for subject in names.split()}
    for name in ("routing_routellm", "routing_routerbench", "routing_llmrouter", "routing_routerdc7b"):
        for row in read(folder, f"{name}.jsonl", licence):
            source, _, subject = row["source"].partition("/")
            question = re.split(r"\nA[.)] ", row["text"])[0]
            domain = None
            if source == "routellm_mmlu":
                domain = subjects.get(subject, "general")
                source = f"mmlu_{domain}"
            elif source in ("routellm_gsm8k", "routerbench_mbpp"):
                domain = "maths" if source.endswith("gsm8k") else "code"
            if domain != "" and source != "routellm_mtbench_turn1":
                yield labelled(row, source, question, domain=domain, unsafe=0)


def strong_rows(folder: Path, licence: str) -> Iterator[Row]:
    """Rows for the head strong; MMLU's subjects are topics.

    Dev rows say whether the strong model was better. Train rows have 0.5 + 0.5 of how much better, less the mean of
    their benchmark; where several big and small models have answered, half of it is their difference, which has less
    noise.
    """
    rows = []
    for family in ("routellm", "llmrouter", "routerbench"):
        rows += [(family, row) for row in read(folder, f"routing_{family}.jsonl", licence)]
    trained = [(family, row) for family, row in rows if row["split"] == "train"]
    gaps, others = _centred(trained, _gap), _centred(trained, _models_gap)
    for (_, row), gap, other in zip(trained, gaps, others, strict=True):
        target = 0.5 + 0.25 * (gap + other)
        yield labelled(row, row["source"], strong=round(min(max(target, 0.0), 1.0), 4))
    for _, row in rows:
        if row["split"] == "dev":
            yield labelled(row, row["source"], strong=float(_gap("", row) > 0))


def _gap(family: str, row: Row) -> float:
    return row["strong"] - row["weak"]


def _models_gap(family: str, row: Row) -> float:
    scores = row.get("scores")
    big, small = ([scores[i] for i in places[family] if scores[i] is not None] if scores else [] for places in _PLACES)
    return fmean(big) - fmean(small) if big and small else _gap(family, row)


_PLACES = (BIG | {"routellm": ()}, SMALL | {"routellm": ()})


def _centred(rows: list[tuple[str, Row]], gap: Any) -> list[float]:
    benchmarks = [row["source"].split("/")[0] for _, row in rows]
    values = [gap(family, row) for family, row in rows]
    means = defaultdict(list)
    for benchmark, value in zip(benchmarks, values, strict=True):
        means[benchmark].append(value)
    centres = {benchmark: fmean(found) for benchmark, found in means.items()}
    return [value - centres[benchmark] for benchmark, value in zip(benchmarks, values, strict=True)]


def plain_prompts(folder: Path) -> list[Row]:
    """What people ask assistants, to calibrate thresholds with."""
    rows = [row for row in read(folder, "general_prompts.jsonl", "shipped") if row["license"] == "Apache-2.0"]
    return [{"text": row["text"], "source": row["source"]} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--licence", choices=("research", "shipped", "cleared"))
    chosen.add_argument("--prompts", action="store_true", help="write models/prompts.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.prompts:
        rows = plain_prompts(arguments.folder)
    else:
        rows = [*domain_rows(arguments.folder, arguments.licence), *strong_rows(arguments.folder, arguments.licence)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"{len(rows)} rows in {arguments.output}")


if __name__ == "__main__":
    main()
