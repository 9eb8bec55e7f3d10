"""The table of methods: named recipes of signals, selector and defaults. A new one is one more entry of `METHODS`."""

from __future__ import annotations

from vlmsift.methods.method import Method, Training

_DELTA = "Delta-AttnMask (arXiv 2508.09199)"
_RISE = "Keeps the largest rise of the loss on the answer"
_FOLLOWED = (
    "a fine-tune on the pool with checkpoints: {}, about {} forwards per sample; then each is scored. Meant for a "
    "small model: give one by --proxy"
)
_BASELINE = "a common baseline"

METHODS: dict[str, Method] = {
    "judge-cover": Method(
        signals=("surprise", "delta_attnmask", "answer_loss", "hidden_mean"),
        selector="judge then facility_location",
        source="ours: surprise after Min-K%++ (arXiv 2404.02936), Delta-AttnMask (arXiv 2508.09199), facility location",
        about="First drops what looks spoiled: answers that are less likely than the model expects of answers there "
        "(surprise), and, half as much, those that lean least on what the model looks at (Delta-AttnMask); how much is "
        "told by planted twins, and no group of equal answers is dropped whole. Then keeps, of what is left, the "
        "greedy choice that each sample has something most like it in. `--no-plants` drops half; so does "
        "judge:drop=0.5 then facility_location.",
        needs="about 1,000 more rows to be scored, with planted twins, unless --no-plants is given",
    ),
    "delta-attnmask": Method(
        # the vector lets `balance="auto"` fall back on clusters where answers are open
        signals=("delta_attnmask", "answer_loss", "hidden_mean"),
        selector="top:by=delta_attnmask",
        source=f"{_DELTA}; the balance is ours",
        about=f"{_RISE}, each answer or cluster of samples by its share.",
    ),
    "delta-attnmask-plain": Method(
        signals=("delta_attnmask", "answer_loss"),
        selector="top:by=delta_attnmask,balance=none",
        source=_DELTA,
        about=f"{_RISE}, over the whole pool.",
    ),
    "delta-attnmask-late": Method(
        signals=("delta_late=delta_attnmask:depth=-1,ratio=0.2,eligible=context,rows=all,sinks=keep", "answer_loss"),
        selector="top:by=delta_late,balance=none",
        source=f"{_DELTA}, as the paper most likely has it",
        about=f"{_RISE}, over the whole pool, with the fifth of prompt and image that all positions attend to most "
        "masked at the input of the last layer, sinks included. The paper leaves most of this open; what is known of "
        "it points here. It ranks otherwise than delta-attnmask does: they are two scores.",
    ),
    "xmas": Method(
        signals=("trajectory=image_spectrum",),
        selector="trajectories",
        source="XMAS (arXiv 2510.01454)",
        about="Follows the five largest singular values of the text-to-image attention over the checkpoints of a "
        "fine-tune on the pool, clusters these trajectories, and keeps the steadiest of each cluster, as many from "
        "each. The paper follows a small proxy of the model that is to be trained. The decomposition is exact, and "
        "attention is the model's own; trajectory=image_spectrum:attention=released is the code's form, which is "
        "another number. Samples without image are drawn at the same rate; trajectories:text=cluster makes them one "
        "more cluster, as the code does, which leaves few of them. Seven checkpoints, as in the repository's figure.",
        needs=_FOLLOWED.format("one epoch", 3),
        training=Training(snapshots=7, changes={"batch_size": 32}),
    ),
    "attention-influence": Method(
        signals=("attention_influence",),
        selector="top:by=attention_influence,balance=source",
        source="AttentionInfluence (arXiv 2505.07293)",
        about="Keeps the largest relative rise of the loss with uniform attention in the retrieval heads, sources "
        "apart, as the paper compares within a domain only. The heads are found once by text needles and stand in the "
        "run's settings (heads=12.3+14.0 uses them again); attention_influence:needle=image looks for them in images, "
        "ours.",
        needs="800 probes once per model, each a forward of up to 4,096 tokens",
    ),
    "bye": Method(
        signals=("entropy_profile",),
        selector="mixture",
        source="BYE (arXiv 2505.16916)",
        about="Removes the samples of low attention entropy at the layers where the pool falls in two; removes nothing "
        "where no layer does. Meant for keep=clean, its default; a budget is filled with survivors at random. A "
        "cleaner, not a score of quality: a pool of mixed questions or image sizes may fall in two without any poison, "
        "so look at `sensitive_layers` in the record before you trust it. The gate is the paper's; "
        "mixture:gate=released is the code's. The mixtures are fitted from several starts, the code's from one.",
        needs="a fine-tune on the pool: three epochs, about 9 forwards per sample",
        keep="clean",
        training=Training(
            snapshots=1,
            recipe="llava-1.5-lora",
            changes={"epochs": 3.0, "batch_size": 16, "learning_rate": 2e-4, "schedule": "linear"},
        ),
    ),
    "coincide": Method(
        signals=("concept_states",),
        selector="coincide",
        source="COINCIDE (arXiv 2406.10995)",
        about="Clusters the attention outputs of five layers, the image's and those of the text after it, shares the "
        "budget by how like the others and how sparse a cluster is, and inside keeps what mirrors it. The released "
        "code stops after the last of the five layers; here the forward is whole. A sample takes 40 bytes per hidden "
        "dimension, on disk and in memory (82 kB where it has 2,048); concept_states:dimensions=1024 projects to 4 kB, "
        "and may keep others.",
    ),
    "s2l": Method(
        signals=("trajectory=answer_loss",),
        selector="trajectories:inside=random,balance=source",
        source="S2L (arXiv 2403.07384)",
        about="Follows the loss on the answer over the checkpoints of a fine-tune on the pool, of a small proxy in the "
        "paper, clusters these trajectories inside each source, and draws evenly from sources, then from their "
        "clusters: 100 of each source, or the square root of half its samples where it has fewer than 300.",
        needs=_FOLLOWED.format("three epochs", 9),
        training=Training(snapshots=7, changes={"batch_size": 32, "epochs": 3.0}),
    ),
    "semdedup": Method(
        signals=("last_state",),
        selector="semdedup",
        source="SemDeDup (arXiv 2303.09540), as run for VLMs by COINCIDE",
        about="Drops what is most like an earlier sample of its cluster, until the budget is left; the published runs "
        "find that threshold by hand. semdedup:eps=0.05 with keep=clean drops by the threshold instead.",
    ),
    "ifd": Method(
        signals=("ifd",),
        selector="top:by=ifd,balance=none,ceiling=1.0",
        source="IFD, Cherry LLM (arXiv 2308.12032)",
        about="Keeps the highest ratio of the loss with to the loss without the prompt; ratios above 1 mislead and "
        "come last. The image counts to the prompt (ifd:image=seen leaves it in both); ifd:ratio=perplexity is the "
        "ratio of later variants. Without the source's warm-up on a few hundred samples.",
    ),
    "el2n": Method(
        signals=("el2n",),
        selector="top:by=el2n,balance=none",
        source="EL2N (Paul et al. 2021), as run for VLMs by COINCIDE",
        about="Keeps the largest mean error norm of the answer's tokens, of one checkpoint. The end that published VLM "
        "tables kept is not stated; --selector top:by=el2n,pick=lowest,balance=none is the other.",
    ),
    # the loss is the logarithm of the perplexity, so it ranks the same
    **{
        f"perplexity-{name}": Method(
            signals=("answer_loss",),
            selector=f"top:by=answer_loss,pick={pick},balance=none",
            source=_BASELINE,
            about=about,
        )
        for name, pick, about in (
            ("low", "lowest", "Keeps the answers that the model finds likeliest."),
            ("middle", "middle", "Keeps the window around the median of the answers' perplexity."),
            ("high", "highest", "Keeps the answers that the model finds least likely."),
        )
    },
    "image-gain": Method(
        signals=("image_gain",),
        selector="top:by=image_gain,balance=none",
        source="first term of MAGIC",
        about=f"{_RISE} when nothing can see the image; dropping its keys is ours.",
    ),
    "facility-location": Method(
        signals=("hidden_mean",),
        selector="facility_location",
        source="facility location, lazy greedy; the pooled hidden state is ours",
        about="Keeps the greedy choice that each sample of the pool has something most like it in.",
    ),
    "k-center": Method(
        signals=("hidden_mean",),
        selector="k_center",
        source="k-center greedy (Gonzalez 1985); the pooled hidden state is ours",
        about="Keeps, one after another, what is farthest from all that is kept; so it likes outliers.",
    ),
    "length": Method(
        signals=("answer_tokens",),
        selector="top:by=answer_tokens,balance=none",
        source=_BASELINE,
        about="Keeps the longest answers.",
    ),
    "random": Method(
        signals=(),
        selector="random",
        source="the baseline of every table",
        about="Draws uniformly among the samples that the model can read.",
    ),
    "full": Method(
        signals=(),
        selector="random",
        source="the baseline of every table",
        about="Keeps every sample that the model can read. With a budget it is `random`.",
        keep="clean",
    ),
}
