"""Makes the model that edgemoe runs when none is named: texts, tokenizer, training, export, figures."""
