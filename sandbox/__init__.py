"""Our stand-in for Microsoft: Entra's token service and Outlook's SMTP submission, on this machine.

It speaks their wire formats, enforces their limits, and fails on request in each way they fail. The demo, the
tests and the bench run against it. `python -m sandbox --dir DIR` starts it; `sandbox.client` steers it.
Nothing here is imported by the relay, and nothing here imports the relay.
"""
