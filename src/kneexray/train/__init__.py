"""The half that makes models. Needs the ``train`` extra; core never imports it."""
