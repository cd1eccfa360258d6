"""Generated answers held to those of the data set."""

import re
from collections.abc import Sequence


class _Words:
    """rouge-score's tokenizer protocol. Its own keeps ASCII letters and digits alone, which no other script has."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())


def rouge_l(references: Sequence[str], answers: Sequence[str]) -> list[float]:
    """ROUGE-L of each answer: the F1 of the longest common subsequence of words (Lin 2004), by rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return [
        round(scorer.score(reference, answer)["rougeL"].fmeasure, 6)
        for reference, answer in zip(references, answers, strict=True)
    ]


def exact_match(references: Sequence[str], answers: Sequence[str]) -> list[float]:
    """1 for an answer that is the reference but for white space, else 0."""
    return [float(reference.split() == answer.split()) for reference, answer in zip(references, answers, strict=True)]
