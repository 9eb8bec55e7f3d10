"""Find the image-instruction samples worth fine-tuning a vision-language model on."""
