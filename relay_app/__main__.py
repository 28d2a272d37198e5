"""`python -m relay_app` is `smtp-relay`."""

from relay_app.cli import main

if __name__ == "__main__":
    main()
