#!/bin/sh
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
#
# The host monitor against the real kernel, in namespaces of its own: bursts, overflow, churn under dumps, idling.
# Ends with a status other than 0 if the monitor's end state is not the kernel's; prints its figures as JSON.
set -eu
cd "$(dirname "$0")/../.."
swift build -c release --product netlink-recorder "$@" >&2
exec unshare -Urn "$(swift build -c release --show-bin-path "$@")/netlink-recorder" --measure
