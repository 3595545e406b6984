"""The loop that joins the stages: the only place that knows all of them."""
