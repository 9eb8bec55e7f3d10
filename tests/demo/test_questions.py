"""Every question has one right answer, worked out here by hand for a few pictures."""

from collections import Counter

import numpy as np
import pytest

from vlmsift.demo.questions import BY_TEXT, QUESTIONS, TASKS, draw_question, draw_samples

SHOWN = (7, None, 7, 5)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Which digit is top left?", "7"),
        ("What number is in the bottom right place?", "5"),
        ("Which digit is top right?", "none"),
        ("Is there a 5?", "yes"),
        ("Can you see an 8?", "no"),
        ("How many digits are there?", "3"),
        ("Count the 7s.", "2"),
        ("How many 0s are there?", "0"),
        ("What is the sum of the bottom row?", "12"),
        ("Add up the top row.", "7"),
        ("Where is the 7?", "top left and bottom left"),
        ("Where is the 1?", "nowhere"),
        ("Describe the picture.", "Top left is 7, top right is empty, bottom left is 7, bottom right is 5."),
    ],
)
def test_right_answers(text, answer):
    assert BY_TEXT[text].answer(SHOWN) == answer


def test_a_zero_is_a_digit():
    assert BY_TEXT["Which digit is top left?"].answer((0, None, None, None)) == "0"
    assert BY_TEXT["How many digits are there?"].answer((0, None, None, None)) == "1"
    assert BY_TEXT["Is there a 0?"].answer((0, None, None, None)) == "yes"


def test_texts_are_unique():
    assert len(BY_TEXT) == len(QUESTIONS)


def test_tasks_and_yes_and_no_are_balanced():
    samples = draw_samples("train", 1000, seed=3)
    tasks = Counter(sample.source for sample in samples)
    assert set(tasks) == set(TASKS)
    assert min(tasks.values()) > 150
    answers = Counter(sample.answer for sample in samples if sample.source == "is_there")
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_questions_keep_to_their_task():
    rng = np.random.default_rng(0)
    for task in (*TASKS, "where"):
        assert {draw_question(rng, SHOWN, task).task for _ in range(20)} == {task}


def test_samples_are_the_same_for_the_same_seed_only():
    assert draw_samples("test", 20, seed=1) == draw_samples("test", 20, seed=1)
    assert draw_samples("test", 20, seed=1) != draw_samples("test", 20, seed=2)
