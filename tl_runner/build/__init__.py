"""From checked configs to networks: a method on its backbone, finished runs, teachers."""
