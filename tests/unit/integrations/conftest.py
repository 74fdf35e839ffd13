"""No test of a framework uses the network. LiteLLM would fetch a table of prices as it is imported."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
