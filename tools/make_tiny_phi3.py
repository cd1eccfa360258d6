"""Make Olive Press's embedded base model: a small, genuine ``Phi3ForCausalLM`` trained from scratch.

The training text is made by ``tiny_phi3_text.py`` (seeded; nothing is downloaded, no other file is read).
This script trains a byte-level BPE tokenizer on that text, then the model, measures the held-out perplexity
and writes one folder of at most 7.9 MB:

* ``model.safetensors`` (float16 weights), ``config.json``, ``generation_config.json``
* ``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja``
* ``training.json``: seed, options, tokens, seconds, device, train loss, held-out perplexity, versions and
  the greedy answers to the sample questions

Run ``python -m tools.make_tiny_phi3 --help`` for the options. On a CPU a run is deterministic for one thread
count and one set of library versions; on CUDA it is seeded, but the last bits may differ between runs.
"""

import json
import math
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

from tools import tiny_phi3_text

MAX_FOLDER_BYTES = 7_900_000
INPUT_TOKENS = 256  # tokens per packed row that the model reads
# The number of tokens must differ from the width of every linear layer (256, 512, 1024): onnxruntime-genai's
# model builder takes any layer with as many outputs as there are tokens for the head of the model.
VOCAB_SIZE = 2048
END_OF_TEXT = "<|endoftext|>"
CHAT_TOKENS = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

# What a token is (its "kind"), and the weight of its prediction in the loss.
PADDING, PROMPT, PLAIN, ANSWER = range(4)
LOSS_WEIGHTS = (0.0, 0.3, 1.0, 1.0)

Rows = tuple[torch.Tensor, torch.Tensor]  # tokens and their kinds, int64, (rows, INPUT_TOKENS + 1) each


@dataclass(frozen=True)
class Documents:
    """Tokenised documents: for each one a ``uint16`` array of tokens and a ``uint8`` array of their kinds."""

    tokens: list[np.ndarray]
    kinds: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.tokens)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (GPT-2 style, no prefix space) with exactly ``VOCAB_SIZE`` entries.

    Each word counts by the square root of its frequency, so that the phrases which the question templates
    repeat do not crowd out the rest of English. The vocabulary holds all 256 bytes: any UTF-8 text encodes.
    """
    words = Counter(word for text in texts for word in re.findall(r" ?[A-Za-z]+| ?\d+", text))
    damped = (word for word, count in sorted(words.items()) for _ in range(math.isqrt(count)))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, *CHAT_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(damped, trainer=trainer)
    if bpe.get_vocab_size() != VOCAB_SIZE:
        raise click.ClickException(f"the text gave only {bpe.get_vocab_size()} of {VOCAB_SIZE} BPE entries")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        additional_special_tokens=CHAT_TOKENS,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Phi3ForCausalLM:
    """A freshly initialised 3.4-million-parameter Phi-3 in float32 (seed torch beforehand)."""
    end_of_text = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    config = Phi3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
    )
    model = Phi3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=end_of_text,
        eos_token_id=[tokenizer.convert_tokens_to_ids("<|end|>"), end_of_text],
        pad_token_id=end_of_text,
        do_sample=False,
    )
    return model


def encode(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> Documents:
    """Tokenise rendered documents, close each with ``<|endoftext|>`` and note each token's kind.

    In a chat, what the assistant says is ANSWER, its ``<|end|>`` included but the newline after
    ``<|assistant|>`` not (the generation prompt gives it); all else in a chat is PROMPT. The rest is PLAIN.
    """
    end_of_text, user, assistant, system, end = tokenizer.convert_tokens_to_ids([END_OF_TEXT, *CHAT_TOKENS])
    documents = Documents([], [])
    for first in range(0, len(texts), 10_000):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts[first : first + 10_000]):
            ids = [*encoding.ids, end_of_text]
            kinds = [PLAIN] * len(ids)
            if ids[0] in (user, system):
                speaking, previous = False, end_of_text
                for position, token in enumerate(ids):
                    kinds[position] = ANSWER if speaking and previous != assistant else PROMPT
                    speaking = token == assistant or (speaking and token != end)
                    previous = token
            documents.tokens.append(np.array(ids, dtype=np.uint16))
            documents.kinds.append(np.array(kinds, dtype=np.uint8))
    return documents


def pack(documents: Documents, order: np.ndarray, pad: int, device: torch.device) -> Rows:
    """Lay the documents, in the given order, whole into rows of ``INPUT_TOKENS`` + 1 tokens.

    So each row begins where a document begins, as a prompt does. A document longer than a row is cut, and
    what a row has left is padding. The rows lie on ``device``.
    """
    width = INPUT_TOKENS + 1
    places, row, column = [], 0, 0
    for index in order:
        length = min(len(documents.tokens[index]), width)
        if column + length > width:
            row, column = row + 1, 0
        places.append((index, row, column, length))
        column += length
    tokens = np.full((row + 1, width), pad, dtype=np.int64)
    kinds = np.full((row + 1, width), PADDING, dtype=np.int64)
    for index, row, column, length in places:
        tokens[row, column : column + length] = documents.tokens[index][:length]
        kinds[row, column : column + length] = documents.kinds[index][:length]
    return torch.from_numpy(tokens).to(device), torch.from_numpy(kinds).to(device)


def training_batches(documents: Documents, batch: int, seed: int, pad: int, device: torch.device) -> Iterator[Rows]:
    """Endless batches of tokens and kinds, (batch, INPUT_TOKENS + 1) each; every epoch is packed afresh."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(documents))
        tokens, kinds = pack(documents, order, pad, device)
        if len(tokens) < batch:
            raise click.ClickException(f"the text fills only {len(tokens)} rows, fewer than --batch {batch}")
        for first in range(0, len(tokens) - batch + 1, batch):
            yield tokens[first : first + batch], kinds[first : first + batch]
        epoch += 1


def token_losses(model: Phi3ForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy (nats, float32) of predicting each token from those before it: (batch, INPUT_TOKENS)."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=tokens.device.type == "cuda"):
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    targets = tokens[:, 1:]
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets)


@torch.no_grad()
def perplexities(model: Phi3ForCausalLM, rows: Rows) -> dict[str, float]:
    """Perplexity over all real tokens of packed rows, and over the answers only."""
    model.eval()
    loss = torch.zeros(4, dtype=torch.float64)  # by kind
    count = torch.zeros(4, dtype=torch.float64)
    for tokens, kinds in zip(rows[0].split(32), rows[1].split(32), strict=True):
        targets = kinds[:, 1:].flatten().cpu()
        loss.index_add_(0, targets, token_losses(model, tokens).flatten().cpu().double())
        count += torch.bincount(targets, minlength=4)
    model.train()
    total = loss[PROMPT:].sum() / count[PROMPT:].sum()
    return {"total": round(total.exp().item(), 4), "answers": round((loss / count)[ANSWER].exp().item(), 4)}


def make_optimizer(model: Phi3ForCausalLM, lr: float, device: torch.device) -> torch.optim.AdamW:
    """AdamW with weight decay 0.1 on the matrices and none on the norms' scales."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    scales = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": scales, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=device.type == "cuda")


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first 5 % of the steps (at most 300), then half a cosine down to 5 %."""
    warmup = max(1, min(300, steps // 20))
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    model: Phi3ForCausalLM,
    batches: Iterator[Rows],
    held_out: Rows,
    steps: int,
    lr: float,
    eval_every: int,
) -> dict[str, float]:
    """Train ``model`` in place; returns the answers' and the weighted mean loss of the last 100 steps."""
    device = held_out[0].device
    optimizer = make_optimizer(model, lr, device)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    kind_weights = torch.tensor(LOSS_WEIGHTS, device=device)
    recent: list[torch.Tensor] = []
    model.train()
    for step in tqdm(range(1, steps + 1), desc="training", unit="step", disable=None):
        tokens, kinds = next(batches)
        losses, weights = token_losses(model, tokens), kind_weights[kinds[:, 1:]]
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

        is_answer = kinds[:, 1:] == ANSWER
        answer_loss = (losses.detach() * is_answer).sum() / is_answer.sum().clamp(min=1)
        # Kept as tensors: reading their values at each step would make the GPU wait.
        recent = [*recent[-99:], torch.stack([loss.detach(), answer_loss])]
        if step % eval_every == 0 or step in (1, steps):
            mean, answers = torch.stack(recent).mean(0).tolist()
            perplexity = perplexities(model, (held_out[0][:64], held_out[1][:64]))
            tqdm.write(
                f"step {step}: train loss {mean:.4f} (answers {answers:.4f}), held-out perplexity "
                f"{perplexity['total']:.3f} (answers {perplexity['answers']:.3f})"
            )
    mean, answers = torch.stack(recent).mean(0).tolist()
    return {"weighted": round(mean, 4), "answers": round(answers, 4)}


@torch.no_grad()
def answer(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str) -> str:
    """The model's greedy answer to one question."""
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    output = model.generate(inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=60)
    return tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True).strip()


def save(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, summary: dict, out: Path) -> int:
    """Write the folder beside ``out``, then rename it, replacing an older one; returns its size in bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        new.mkdir()
        model.half().save_pretrained(new)
        tokenizer.save_pretrained(new)
        config_file = new / "tokenizer_config.json"
        tokenizer_config = json.loads(config_file.read_text(encoding="utf-8"))
        tokenizer_config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config_file.write_text(json.dumps(tokenizer_config, indent=2) + "\n", encoding="utf-8")
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        (new / "training.json").write_text(text, encoding="utf-8")
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors writes its file for the owner only
        size = sum(file.stat().st_size for file in new.iterdir())
        if size > MAX_FOLDER_BYTES:
            raise click.ClickException(f"the folder has {size} bytes, more than {MAX_FOLDER_BYTES}")
        if out.exists():
            out.rename(old)
        new.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    return size


@click.command(help="Train the embedded tiny Phi-3 base model from scratch on text that this script makes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Output [data/tiny-phi3].")
@click.option("--steps", type=click.IntRange(1), default=7000, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Rows of 256 tokens.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True, help="At its peak.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="For text and weights.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--text-mb", type=click.FloatRange(0.5), default=24.0, show_default=True, help="Text to make.")
@click.option("--eval-every", type=click.IntRange(1), default=500, show_default=True, help="Steps.")
def main(
    out: Path | None,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    device: str,
    text_mb: float,
    eval_every: int,
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("no CUDA device is available", param_hint="--device")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    out = out or Path(__file__).parents[1] / "data/tiny-phi3"
    if out.exists() and not (out / "training.json").is_file() and any(out.iterdir()):
        raise click.BadParameter("the folder exists and was not made by this script", param_hint="--out")
    torch_device = torch.device(device)
    torch.manual_seed(seed)

    click.echo(f"making {text_mb} MB of text")
    train_texts, held_out_texts = tiny_phi3_text.make_documents(seed, int(text_mb * 1e6))
    tokenizer = train_tokenizer(train_texts)
    train_documents, held_out_documents = encode(train_texts, tokenizer), encode(held_out_texts, tokenizer)
    counts = [sum(map(len, documents.tokens)) for documents in (train_documents, held_out_documents)]
    click.echo(f"training text: {len(train_texts)} documents, {counts[0]} tokens")
    click.echo(f"held-out text: {len(held_out_texts)} documents, {counts[1]} tokens")

    pad = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    held_out_order = np.random.default_rng(seed).permutation(len(held_out_documents))
    held_out = pack(held_out_documents, held_out_order, pad, torch_device)
    model = make_model(tokenizer).to(torch_device)
    start = time.monotonic()
    batches = training_batches(train_documents, batch, seed, pad, torch_device)
    train_loss = train(model, batches, held_out, steps, lr, eval_every)
    seconds = time.monotonic() - start

    model = model.half().float().eval()  # judge the weights as they are stored
    perplexity = perplexities(model, held_out)
    answers = {question: answer(model, tokenizer, question) for question in tiny_phi3_text.SAMPLE_QUESTIONS}
    summary = {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "parameters": model.num_parameters(),
        "vocab_size": VOCAB_SIZE,
        "text_bytes": sum(len(text.encode()) for text in train_texts + held_out_texts),
        "distinct_words": len({word.lower() for text in train_texts for word in re.findall(r"[^\W\d_]+", text)}),
        "train_set_tokens": counts[0],
        "held_out_tokens": counts[1],
        "tokens_seen": steps * batch * INPUT_TOKENS,
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "train_loss": train_loss,
        "held_out_perplexity": perplexity,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "answers": answers,
    }
    size = save(model, tokenizer, summary, out)
    for question, text in answers.items():
        click.echo(f"  {question} -> {text}")
    click.echo(f"held-out perplexity: {perplexity['total']} (answers {perplexity['answers']})")
    click.echo(f"{size} bytes in {out}; {steps * batch * INPUT_TOKENS / seconds:.0f} tokens/s")


if __name__ == "__main__":
    main()
