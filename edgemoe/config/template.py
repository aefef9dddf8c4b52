"""The configuration that `edgemoe route init` writes: every setting with its default, and what it means."""

from __future__ import annotations

import os
from pathlib import Path

from edgemoe.config.settings import REFUSAL
from edgemoe.errors import ConfigError, WriteError
from edgemoe.files import replace_file

TEMPLATE = f'''\
# edgemoe: who answers a prompt. docs/routes.md explains it; "edgemoe route explain PROMPT" shows what it does.
# Lines that begin with # are defaults, or examples. A variable such as EDGEMOE_PRIVATE=true overrides a line.

# private = true                 # nothing ever leaves this machine
# personal_data = ["email", "phone", "card", "iban", "id", "key", "birth", "address", "network"]   # these stay, too
# threshold = 0.2                # the cloud answers where a strong model is needed at least this probably
# unsafe_threshold = 0.8         # prompts above this are refused; 1 refuses none
# refusal = "{REFUSAL}"
# escalate = "ask"               # what happens when a local answer looks unsure: "ask", "auto" or "never"
# confidence = 0.5               # local answers below this look unsure
# verify = false                 # also ask the local model whether its answer is right, before showing it
# budget = "1.50/day"            # what cloud answers may cost, or "10/week", "30/month"; in the prices' unit
# prompts_per_day = 100          # lets feedback spread the budget over the day's prompts
# answer_tokens = 300            # how long an answer is taken to be before it is there
# feedback = true                # /good and /bad in the chat teach the router
# memory = "auto"                # for all local models together, and the rest of the process
# router = "router.onnx"         # in place of the one that comes with edgemoe
# heads = ["tool.onnx"]          # more routers, of "edgemoe route train", whose heads rules may name
# state = "~/.local/state/edgemoe"   # where money and feedback are counted

# [weights]                      # they choose where several models could answer
# quality = 1.0
# price = 0.3
# latency = 0.1
# privacy = 0.1

# Local models, each under a name of its own.

[local.small]
# path = "model.gguf"            # default: the small model that comes with edgemoe
# memory = "4GiB"                # default: all of it, so that no other model is loaded at the same time
# quality = "exact"
# ctx = 4096                     # tokens; default: as trained, or as fits
# threads = 4                    # default: the machine's cores
# domains = ["code", "maths"]    # it is the expert for these; default: for anything
# ability = 0.5                  # how good its answers to hard prompts are, 0 to 1
# latency = 1.0                  # seconds to its first token, for the weights
# confidence = [2.0, 1.0, -0.5]  # what "edgemoe route confidence" has measured; these are for any model
# system = "You are a helpful assistant."
# sampling = {{ temperature = 0.7, top_p = 0.95 }}

# Cloud models: any endpoint that speaks OpenAI's protocol. Keys are never written here.

# [cloud.big]
# base_url = "https://api.example.com/v1"
# model = "big-model"
# key_variable = "EXAMPLE_API_KEY"   # the environment variable that has the key
# keyring = "example"                # or where the system's keyring has it
# input_price = 0.50             # for a million tokens; default: 0
# output_price = 1.50
# domains = ["code", "maths"]
# ability = 0.9
# latency = 1.0
# trust = 0.0                    # 1 for a server of your own
# system = "You are a helpful assistant."
# sampling = {{ temperature = 0.7, max_tokens = 1000 }}
# connect_timeout = 10.0         # seconds for a connection
# first_token_timeout = 60.0     # until the answer begins
# stall_timeout = 30.0           # between two pieces of it
# total_timeout = 900.0          # for all of it
# slowest = 1.0                  # characters a second below which an answer is given up
# retries = 2                    # when nothing had come yet
# plain_http = false             # lets the key travel without TLS to another machine

# Rules, the first that fits. They come after privacy and refusals, and before the threshold.

# [[rule]]
# name = "maths is for the big one"
# when = {{ domain = ["maths", "code"], strong = ">= 0.3" }}
# then = "cloud"                 # a model's name, "local", "cloud" or "refuse"
# refusal = "Not here."          # with "refuse": in place of the one above
'''


def write_template(path: Path, *, replace: bool = False) -> None:
    """Writes the commented file, readable by its owner alone.

    Raises:
        ConfigError: when there is one already, and `replace` is not set.
        WriteError: when it cannot be written.
    """
    if path.is_dir():
        raise WriteError(f"{path} is a folder: give the name of a file in it")
    if not replace and os.path.lexists(path):
        raise ConfigError(f"{path} exists already: --force replaces it")
    replace_file(path, TEMPLATE.encode())
