import COpenCL
import Synchronization

/// Makes a device's calls fail, so that tests see what becomes of it: a lost device, or one without memory, is hard to come by.
package final class CallFailures: Sendable {
  private struct Rule {
    let status: cl_int
    /// Calls that still succeed, and then calls that fail.
    var passing: Int
    var failing: Int
  }

  private let rules = Mutex<[String: Rule]>([:])

  package init() {}

  /// From now on `call`, "clCreateBuffer", succeeds `passing` times, then fails `failing` times.
  package func fail(_ call: String, status: Int32, after passing: Int = 0, times failing: Int = .max) {
    rules.withLock { $0[call] = Rule(status: status, passing: passing, failing: failing) }
  }

  /// The status that a call shall have instead of being made; `nil` to make it.
  func status(of call: String) -> cl_int? {
    rules.withLock { rules in
      guard var rule = rules[call] else { return nil }
      defer { rules[call] = rule }
      if rule.passing > 0 {
        rule.passing -= 1
        return nil
      }
      guard rule.failing > 0 else { return nil }
      rule.failing -= 1
      return rule.status
    }
  }
}
