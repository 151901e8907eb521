"""A harmless copy of an instance: what replaces personal data, secrets and attachments."""
