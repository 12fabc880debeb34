"""The same in other people's training loops: Hugging Face Trainer, Accelerate and Lightning."""
