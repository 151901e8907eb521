"""A job as a workflow of GitHub Actions and as a job of GitLab CI, for a runner on the machine.

A double-quoted YAML scalar is read as a JSON string is (YAML 1.2, section 1.3), so every value is
written as one.
"""

import json

from ops.schedule.job import Job, shell_line

_HOURS = 12


def github(job: Job) -> str:
    """Return the workflow."""
    # GitHub puts expressions into the text before any shell sees it.
    command = shell_line(job).replace("${{", "${{ '${{' }}")
    return f"""\
# Runs on a runner of yours, on the machine that has the instance. GitHub's clock is UTC.
name: {_scalar(job.unit)}
on:
  schedule:
    - cron: {_scalar(job.when.cron)}
  workflow_dispatch:
permissions: {{}}
concurrency:
  group: {_scalar(job.unit)}
  cancel-in-progress: false
jobs:
  snapshot:
    name: {_scalar(job.title)}
    runs-on: [self-hosted, ciso-ops]
    timeout-minutes: {_HOURS * 60}
    steps:
      - name: {_scalar("Make and check a snapshot")}
        run: {_scalar(command)}
"""


def gitlab(job: Job) -> str:
    """Return the job."""
    return f"""\
# Runs on a runner of yours, on the machine that has the instance. GitLab keeps the time in the
# project's pipeline schedules: make one with the interval {job.when.cron}
{_scalar(job.unit)}:
  rules:
    - if: '$CI_PIPELINE_SOURCE == "schedule"'
    - if: '$CI_PIPELINE_SOURCE == "web"'
  tags: [ciso-ops]
  resource_group: {_scalar(job.unit)}
  interruptible: false
  timeout: {_HOURS} hours
  variables:
    GIT_STRATEGY: none
  script:
    - {_scalar(shell_line(job))}
"""


def _scalar(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
