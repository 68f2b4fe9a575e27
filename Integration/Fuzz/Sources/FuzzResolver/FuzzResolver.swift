// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import ResolverFiles

/// Takes the input as a resolv.conf(5).
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    let read = ResolverConfiguration(resolvConf: bytes)
    precondition(read.servers.count <= ResolverConfiguration.maximumServers)
    precondition(read.search.count <= ResolverConfiguration.maximumSearchDomains)
    precondition(Set(read.servers).count == read.servers.count)
    // Comments and a missing line end change nothing.
    precondition(ResolverConfiguration(resolvConf: bytes + Array("\n# nameserver 192.0.2.1".utf8)) == read)
    return 0
}
