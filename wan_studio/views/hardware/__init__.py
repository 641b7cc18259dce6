"""Hardware page: this machine and the base model."""
