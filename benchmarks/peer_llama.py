"""Prefill and decode of llama.cpp (llama-cpp-python) on a GGUF file: prints one JSON line.

    peer_llama.py FILE PROMPT_TOKENS DECODE_TOKENS STREAMS THREADS

Streams have different prompts of the same length, so that nothing can be shared. They are prefilled one after the other and then decoded together
greedily, one batch per step, as in a server.
"""

import ctypes
import json
import sys
import time

import llama_cpp as llama


def main():
    file, prompt, decode, streams, threads = sys.argv[1], *map(int, sys.argv[2:6])
    llama.llama_log_set(QUIET, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
    vocabulary = llama.llama_model_get_vocab(model)
    size = llama.llama_vocab_n_tokens(vocabulary)
    settings = llama.llama_context_default_params()
    settings.n_ctx = streams * (prompt + decode + 32)
    settings.n_batch = settings.n_ubatch = 512
    settings.n_seq_max = streams
    settings.n_threads = settings.n_threads_batch = threads
    settings.no_perf = True
    context = llama.llama_init_from_model(model, settings)
    batch = llama.llama_batch_init(max(512, streams), 0, 1)
    memory = llama.llama_get_memory(context)
    prompt_of = lambda stream: [(7 * position + 131 * stream) % (size - 100) + 50 for position in range(prompt)]
    best = {"prefill": 0.0, "decode": 0.0}
    for _ in range(2):  # the first round warms up
        llama.llama_memory_clear(memory, True)
        began, newest = time.perf_counter(), []
        for stream in range(streams):
            tokens = prompt_of(stream)
            for first in range(0, prompt, 512):
                chunk = tokens[first:first + 512]
                fill(batch, [(token, first + index, stream, first + index == prompt - 1) for index, token in enumerate(chunk)])
                check(llama.llama_decode(context, batch))
            newest.append(likeliest(context, batch.n_tokens - 1, size))
        prefill = time.perf_counter() - began
        began = time.perf_counter()
        for step in range(decode):
            fill(batch, [(token, prompt + step, stream, True) for stream, token in enumerate(newest)])
            check(llama.llama_decode(context, batch))
            newest = [likeliest(context, stream, size) for stream in range(streams)]
        seconds = time.perf_counter() - began
        best["prefill"] = max(best["prefill"], streams * prompt / prefill)
        best["decode"] = max(best["decode"], streams * decode / seconds)
    print(json.dumps({"prefill_tokens_per_second": best["prefill"], "decode_tokens_per_second": best["decode"]}))


def fill(batch, entries):
    batch.n_tokens = len(entries)
    for index, (token, position, stream, wanted) in enumerate(entries):
        batch.token[index], batch.pos[index] = token, position
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, stream
        batch.logits[index] = wanted


def likeliest(context, index, size):
    """The argmax, by numpy: in plain Python it would cost more than the model."""
    import numpy

    row = llama.llama_get_logits_ith(context, index)
    return int(numpy.ctypeslib.as_array(row, shape=(size,)).argmax())


def check(status):
    if status:
        sys.exit(f"llama_decode answered {status}")


@llama.llama_log_callback
def QUIET(level, text, data):
    pass


main()
