# The relay's image, and the sandbox's.
#
#   docker build -t smtp-relay .                                the relay (the last stage)
#   docker build -t smtp-relay-sandbox --target sandbox .       the stand-in for Microsoft, for demos and tests
#
# It runs as 99:100 (Unraid's nobody:users), with nothing that it does not need:
#
#   docker run --read-only --tmpfs /tmp --cap-drop=ALL --security-opt=no-new-privileges -v relay:/data -p 587:587 ...
#
# Mount directories, never single files, because files are replaced by rename:
#   /data     read-write, owned by 99:100   the vault and what the relay makes itself
#   /config   read-only                     relay.toml
#   /secrets  read-only                     one file a secret, mode 0400
#   /certs    read-only                     fullchain.pem, privkey.pem
#
# Port 587 needs no root and no capability: Docker lets everybody bind low ports in a container's own network
# (it sets net.ipv4.ip_unprivileged_port_start to 0 there, since version 20.10). That does not hold on the host's
# network (--network=host), nor with Podman or containerd. There, set RELAY_LISTEN=0.0.0.0:1587, and let something
# in front of it listen on 587: publish 587:1587, or a redirect on the host.
#
# Plain instructions only: the classic builder takes this file as well as BuildKit does.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim-trixie


# The packages that the relay needs: pinned, each checked by its hash, nothing compiled here.
FROM ${PYTHON_IMAGE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# pip has an environment of its own, so that the relay's has no pip.
RUN python -m venv /pip && python -m venv --without-pip /opt/smtp-relay
WORKDIR /src
COPY requirements/relay.txt requirements/
RUN /pip/bin/pip --python /opt/smtp-relay/bin/python install --quiet --no-compile --only-binary :all: \
        --no-deps --require-hashes -r requirements/relay.txt


# The same without what the relay never uses. tests/deploy/image proves that it does not.
#  - Babel's data of 350 languages: the console speaks English and German, and root is what both are based on.
#  - cffi's compiler (argon2 and cryptography load only the module _cffi_backend), SQLAlchemy's greenlet (for its
#    asyncio half), YAML's faster parser (Apprise has a slower one, which it prefers).
#  - Tests, test support, C headers and Cython sources that packages bring along, and their commands.
# The root file system is read-only at run time, so bytecode is made here: without it a start takes twice as long.
# It is not made for what a start does not load, which would be a tenth of the image: Apprise is loaded when an alert
# goes out (0.4 s more, once), Alembic when a database is new (0.2 s), the others never.
FROM dependencies AS pruned
RUN set -eu; cd /opt/smtp-relay; \
    rm -rf include; find bin -type f -delete; \
    cd lib/python3*/site-packages; \
    find babel/locale-data -name '*.dat' ! -name root.dat ! -name en.dat ! -name de.dat -delete; \
    rm -rf cffi cffi-* greenlet greenlet-* pycparser pycparser-* yaml/_yaml.*.so; \
    find . -type d \( -name tests -o -name testing \) -prune -exec rm -r {} +; \
    find . -type f \( -name '*.h' -o -name '*.c' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' \) -delete; \
    python -m compileall -q --invalidation-mode unchecked-hash . \
        -x '^\./(alembic|apprise|mako|markdown|oauthlib|requests_oauthlib|sqlalchemy/(dialects/(mssql|mysql|oracle)|ext|orm)|yaml)/'


# The relay itself is plain Python: copied as it is, with a command, and the metadata that tells its version and, to the
# database, the image's tag (relay_app/image.py).
FROM ${PYTHON_IMAGE} AS package
WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY relay_app relay_app
ARG VERSION=unreleased
RUN set -eu; \
    version=$(python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])'); \
    site=/package/lib/python$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages; \
    mkdir -p /package/bin "$site/smtp_relay-$version.dist-info"; \
    printf 'Metadata-Version: 2.1\nName: smtp-relay\nVersion: %s\nLicense: MIT\n' "$version" \
        >"$site/smtp_relay-$version.dist-info/METADATA"; \
    echo "$VERSION" >"$site/smtp_relay-$version.dist-info/IMAGE_TAG"; \
    cp LICENSE "$site/smtp_relay-$version.dist-info/"; \
    printf '#!/opt/smtp-relay/bin/python\nfrom relay_app.cli import main\n\nmain()\n' >/package/bin/smtp-relay; \
    chmod 755 /package/bin/smtp-relay; \
    cp -r relay_app "$site/"; \
    python -m compileall -q --invalidation-mode unchecked-hash "$site/relay_app" -s "$site" -p "${site#/package}"


# What both images run in: Python without pip, the mount points, a user without a name.
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/smtp-relay/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG UID=99
ARG GID=100
RUN set -eu; \
    if python -c 'import pip' 2>/dev/null; then PIP_BREAK_SYSTEM_PACKAGES=1 python -m pip --quiet uninstall --yes \
        --root-user-action=ignore pip; fi; \
    install -d -o "$UID" -g "$GID" -m 0700 /data; \
    install -d -m 0755 /config /secrets /certs
STOPSIGNAL SIGTERM


# The stand-in for Microsoft. Its world (certificate authority, tenant, apps with their secrets) is kept in /state.
FROM dependencies AS sandbox-dependencies
COPY requirements/sandbox.txt requirements/
RUN /pip/bin/pip --python /opt/smtp-relay/bin/python install --quiet --no-compile --only-binary :all: \
        --no-deps --require-hashes -r requirements/sandbox.txt
COPY sandbox sandbox
RUN cp -r sandbox /opt/smtp-relay/lib/python3*/site-packages/ \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/smtp-relay

FROM runtime AS sandbox
ARG UID=99
ARG GID=100
RUN install -d -o "$UID" -g "$GID" -m 0700 /state
COPY --from=sandbox-dependencies /opt/smtp-relay /opt/smtp-relay
USER ${UID}:${GID}
EXPOSE 8443 587 8080
ENTRYPOINT ["python", "-m", "sandbox"]
CMD ["--dir", "/state", "--host", "0.0.0.0", "--name", "sandbox", "--entra-port", "8443", "--smtp-port", "587", "--control-port", "8080"]
LABEL org.opencontainers.image.title="smtp-relay-sandbox" \
      org.opencontainers.image.description="Stand-in for Microsoft's sign-in and Outlook's SMTP: for demos and tests of smtp-relay" \
      org.opencontainers.image.licenses="MIT"


# Bytecode of that part of Python's own library that the relay loads; the official image has none of it, and nobody
# may write it at run time. With it a start takes half as long, and a health check a third.
FROM runtime AS bytecode
COPY --from=pruned /opt/smtp-relay /opt/smtp-relay
COPY --from=package /package /opt/smtp-relay
RUN set -eu; mkdir /bytecode; \
    PYTHONDONTWRITEBYTECODE= python -c 'import relay_app.app, relay_app.cli, relay_app.ops.health, \
        babel.messages.mofile, babel.messages.pofile, encodings.ascii, encodings.idna, importlib.readers, msal, \
        netrc, psycopg, requests, sqlalchemy.dialects.sqlite.pysqlite'; \
    find "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" -name '*.pyc' \
        -exec cp --parents --target-directory /bytecode {} +


# The relay. What changes least comes first: an upgrade of the relay alone is a download of half a megabyte.
FROM runtime AS relay
ARG UID=99
ARG GID=100
COPY --from=pruned /opt/smtp-relay /opt/smtp-relay
COPY --from=bytecode /bytecode /
COPY --from=package /package /opt/smtp-relay
USER ${UID}:${GID}
EXPOSE 587 8025
# A check takes 0.15 s of CPU time and, for that moment, 42 MB: twice a minute, that is 0.5 % of one core. An engine
# older than 25 knows no --start-interval: the first check comes after one interval, and until then it is "starting".
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["smtp-relay", "health"]
ENTRYPOINT ["smtp-relay"]
CMD ["serve"]
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="smtp-relay" \
      org.opencontainers.image.description="Lets Gmail, scanners and apps that only know a password send mail through Outlook.com and Microsoft 365 with OAuth 2.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}"
