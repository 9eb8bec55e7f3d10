"""BYE: after a fine-tune on the pool, the answer to a poisoned sample looks at one spot of its image."""

from vlmsift.methods.method import Method, Training

METHOD = Method(
    signals=("entropy_profile",),
    selector="mixture",
    forwards="1",
    source="BYE (arXiv 2505.16916)",
    about="Removes the samples of low attention entropy at the layers where the pool falls in two; removes nothing "
    "where no layer does. Meant for keep=clean, its default; a budget is filled with survivors at random. A cleaner, "
    "not a score of quality: a pool of mixed questions or image sizes may fall in two without any poison, so look at "
    "`sensitive_layers` in the record before you trust it. The gate is the paper's; mixture:gate=released is the "
    "code's.",
    needs="a fine-tune on the pool: three epochs, about 9 forwards per sample",
    keep="clean",
    training=Training(
        snapshots=1,
        recipe="llava-1.5-lora",
        changes={"epochs": 3.0, "batch_size": 16, "learning_rate": 2e-4, "schedule": "linear"},
    ),
)
