"""Packed questions give the losses and gradients that the same questions give as separate samples."""

import numpy as np
import torch
from tools.embedded_model.build import IMAGE_TOKENS, build
from tools.embedded_model.evaluate import IGNORE, encode
from tools.embedded_model.packing import Packer

from vlmsift.demo.digits import draw_scene
from vlmsift.demo.questions import TASKS, draw_question, to_sample


def test_a_packed_question_stands_as_if_alone():
    model, processor = build(3)
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, "train") for _ in range(3)]
    # Rows of unlike length, so that padding is met too.
    asked = [[draw_question(rng, scene.values, task) for task in TASKS[row:]] for row, scene in enumerate(scenes)]
    inputs, labels = Packer(processor, IMAGE_TOKENS)(scenes, asked)
    with torch.no_grad():
        logits = model(**inputs).logits
    packed = [logits[row, :-1][labels[row, 1:] != IGNORE] for row in range(3)]
    for row, (scene, questions) in enumerate(zip(scenes, asked, strict=True)):
        alone, wanted = [], []
        for index, question in enumerate(questions):
            single, truth = encode(processor, [to_sample(scene, question, index)])
            with torch.no_grad():
                answer_rows = model(**single).logits[0, :-1][truth[0, 1:] != IGNORE]
            alone.append(answer_rows)
            wanted.append(truth[0][truth[0] != IGNORE])
        assert torch.equal(labels[row][labels[row] != IGNORE], torch.cat(wanted))
        torch.testing.assert_close(packed[row], torch.cat(alone), atol=1e-5, rtol=1e-5)
