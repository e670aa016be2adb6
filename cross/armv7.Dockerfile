# The image of `cross` for this target, with the compiler that cross/build
# uses: cross's own image links with an older musl and GCC.
ARG CROSS_BASE_IMAGE
FROM $CROSS_BASE_IMAGE

# The same version as in cross/settings.
ARG ZIG_VERSION=0.15.2
RUN apt-get update \
    && apt-get install --assume-yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && pip3 install --no-cache-dir --target /opt/zig "ziglang==$ZIG_VERSION"

COPY cross/zig-cc cross/zig-ar /usr/local/bin/

ENV RETURNPATH_ZIG=/opt/zig/ziglang/zig \
    ZIG_GLOBAL_CACHE_DIR=/tmp/zig-cache \
    ZIG_LOCAL_CACHE_DIR=/tmp/zig-cache \
    CC_armv7_unknown_linux_musleabihf=/usr/local/bin/zig-cc \
    AR_armv7_unknown_linux_musleabihf=/usr/local/bin/zig-ar \
    CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_LINKER=/usr/local/bin/zig-cc \
    CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUSTFLAGS="-C link-self-contained=no -C target-feature=+crt-static"
