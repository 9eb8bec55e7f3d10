"""What a choice does to answers: how often each is given to a form of question, before and after. Out: a record.

Balance over answers alone can turn "is there no X" from mostly yes to mostly no, and a model that is trained on that
learns the answer instead of the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.forms import forms
from vlmsift.choosing.groups import distinct, paired

MUCH = 0.15  # by which an answer's share inside a form may move before a user is warned
LEAST = 20  # kept rows of a form that is judged
BEYOND = 3.0  # standard deviations of a random draw that a move must exceed, so that luck is no warning


def answers_moved(rows: Candidates, kept: NDArray[np.bool_]) -> dict[str, Any] | None:
    """The largest move of P(answer | form of question) from all `rows` (N) to the `kept` ones (N,), beyond chance.

    Returns:
        `form`, `answer`, its share `before` and `after`, `rows` of the form and how many are `kept`; None where no form
        has `LEAST` kept rows with short answers, or nothing moves by more than a random draw would.
    """
    answer, answers = rows.coded("answer_key")  # (N,), beyond the last where it is long
    short = answer < len(answers)
    if not short.any():
        return None
    form, names = forms(rows, among=short)
    form, answer, kept = form[short], answer[short], kept[short]  # (n,) each
    whole, chosen = (np.bincount(some, minlength=len(names)) for some in (form, form[kept]))  # (F,) each
    pairs, place = distinct(paired(form, answer, len(answers) + 1))  # (P,), (n,)
    given, taken = (np.bincount(some, minlength=len(pairs)) for some in (place, place[kept]))
    of = pairs // (len(answers) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = given / whole[of], taken / chosen[of]
        rest = (whole[of] - chosen[of]) / np.maximum(whole[of] - 1, 1)  # a draw without replacement varies less
        luck = np.sqrt(before * (1 - before) / chosen[of] * rest)
    move = np.where(chosen[of] >= LEAST, np.abs(after - before), 0.0)
    move = np.where(move > BEYOND * np.nan_to_num(luck, posinf=0.0), np.nan_to_num(move), 0.0)
    worst = int(np.argmax(move))
    if not move[worst]:
        return None
    return {
        "form": names[of[worst]],
        "answer": answers[pairs[worst] % (len(answers) + 1)],
        "before": round(float(before[worst]), 4),
        "after": round(float(after[worst]), 4),
        "rows": int(whole[of[worst]]),
        "kept": int(chosen[of[worst]]),
    }
