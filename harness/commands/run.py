"""`spanreel lab run`."""

from __future__ import annotations

import time

import click

from harness import bringup, namespace, session
from harness.commands.options import no_wait, which_lab
from harness.evidence import keep_journals
from harness.job.main import main_job
from harness.job.record import Run
from harness.providers.base import Provider
from harness.report import write
from harness.report.summary import show


@click.command()
@which_lab
@click.option("--keep", is_flag=True, help="Leave the lab running afterwards. It stays up anyway if it was.")
@no_wait
@click.pass_context
def run(ctx: click.Context, topology: str | None, name: str | None, keep: bool, wait: bool) -> None:
    """Run the main job: seed, back up through each file server, restore, prove, report.

    Example: spanreel lab run --topology process
    """
    lab, wanted = session.wanted(topology, name)
    with session.holding(lab, wanted, wait=wait) as provider:
        keep = keep or provider.lab.state in ("ready", "seeded")
        done = new_run(provider)
        try:
            job(done)
        finally:
            # Also after Ctrl-C and after mistakes of our own: nothing is left running unasked.
            if not keep:
                with done.guard("bring the lab down"):
                    bringup.down(provider)
    report = write(done)
    show(done, report)
    if keep:
        click.echo(f"The lab is still up; end it: spanreel lab down --lab {lab}")
    ctx.exit(done.exit_code)


def new_run(provider: Provider) -> Run:
    """Make the record of a run, with a folder of its own."""
    folder = provider.lab.folder / "runs" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True)
    return Run(provider, folder)


def job(done: Run) -> None:
    """Bring the lab up and run the main job; expected errors end up in the record."""
    provider = done.provider
    ready = False
    with done.guard("bring the lab up"), done.phase("bring the lab up"):
        bringup.up(provider)
        namespace.require_as_in_topology(provider)
        ready = True
    if ready:
        main_job(done)
        keep_journals(provider, done.folder / "journals")
        if provider.leases is not None:
            with done.guard("the library was ours alone"):
                provider.leases.verify()
        provider.lab.state = "seeded"
        provider.lab.save()
    done.seconds = time.time() - done.started
