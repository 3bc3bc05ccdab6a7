"""Online reinforcement learning: a policy trained by GRPO on outcomes and on the scores of its steps."""
