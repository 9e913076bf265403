# Two stages: compile, then a slim image that holds the program, its libraries and the demo model.
# Serve your own: mount a model over /models/base and adapters over /models/adapters.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc make pkg-config libc6-dev \
        libmicrohttpd-dev libjansson-dev libopenblas-serial-dev libpcre2-dev nettle-dev libutf8proc-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile VERSION ./
COPY core core
COPY backends backends
COPY config config
COPY server server
RUN make -j"$(nproc)" CFLAGS=-O2 build/oftd && strip build/oftd

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        libmicrohttpd12 libjansson4 libopenblas0-serial libpcre2-8-0 libnettle8 libutf8proc2 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd -g 10001 oftd && useradd -u 10001 -g oftd -M -d /nonexistent -s /usr/sbin/nologin oftd
COPY --from=build /src/build/oftd /usr/bin/oftd
COPY demo/base /models/base
COPY demo/adapters /models/adapters
COPY LICENSE /usr/share/doc/oftd/LICENSE
ENV OFTD_MODEL=/models/base \
    OFTD_ADAPTER_DIR=/models/adapters \
    OFTD_LISTEN=0.0.0.0:8080
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["/usr/bin/oftd", "health"]
ENTRYPOINT ["/usr/bin/oftd"]
CMD ["serve"]
