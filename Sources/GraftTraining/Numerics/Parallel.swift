import Dispatch

/// Runs `body` for 0 ..< `count` on all cores and returns when every call has.
///
/// The caller promises that no two calls write to the same memory, and that none writes to what another reads.
func inParallel(_ count: Int, _ body: (Int) -> Void) {
  withoutActuallyEscaping(body) { body in
    // Not checked by the compiler: the calls overlap in time, and the promise above is what keeps them apart.
    nonisolated(unsafe) let body = body
    DispatchQueue.concurrentPerform(iterations: count) { body($0) }
  }
}
