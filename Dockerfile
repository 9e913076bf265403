# Compile, then a slim image that holds the program, its libraries and the demo model. Serve your own: mount a model over
# /models/base and adapters over /models/adapters.
#
#   docker build -t oftd .                       # computes on the CPU
#   docker build -t oftd:cuda --target cuda .    # and on an NVIDIA GPU, where `docker run --gpus all` gives it one
#
# A builder that makes every stage (podman before 4.4) is spared the CUDA toolkit by --target run.
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

FROM debian:bookworm-slim AS run
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

# The toolkit is that of Debian (non-free, 5 GB unpacked) and stays in this stage: the plug-in needs the driver alone.
FROM debian:bookworm-slim AS build-cuda
RUN sed -i 's/^Components: main$/& contrib non-free/; s/^deb .* main$/& contrib non-free/' \
        $(find /etc/apt -name '*.sources' -o -name '*.list') \
    && apt-get update && apt-get install -y --no-install-recommends make g++ pkg-config nvidia-cuda-toolkit \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile VERSION ./
COPY core core
COPY backends backends
RUN make -j"$(nproc)" cuda

FROM run AS cuda
COPY --from=build-cuda /src/build/liboftd-cuda.so /usr/lib/oftd/liboftd-cuda.so
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM run
