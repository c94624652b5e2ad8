import Foundation
import Synchronization

/// Where this layer says what is worth knowing and is no error: a driver left out, a cache that cannot be used.
package enum DeviceNotes {
  private static let handler = Mutex<@Sendable (String) -> Void>(standardError)
  private static let said = Mutex<Set<String>>([])

  /// Says one sentence.
  package static func note(_ message: String) {
    let current = handler.withLock { $0 }
    current(message)
  }

  /// Says what holds for as long as the process runs, when it first matters.
  package static func noteOnce(_ message: String) {
    if said.withLock({ $0.insert(message).inserted }) { note(message) }
  }

  /// Sends the notes elsewhere; by default they go to standard error.
  package static func setHandler(_ new: @escaping @Sendable (String) -> Void) {
    handler.withLock { $0 = new }
  }

  @Sendable private static func standardError(_ message: String) {
    StandardError.write("graft: note: \(message)\n")
  }
}

/// The stream for messages.
package enum StandardError {
  /// Writes what can be written. Where nobody reads (a closed terminal, a full disk) there is nobody to tell, either.
  package static func write(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)[...]
      while !rest.isEmpty {
        let part = UnsafeRawBufferPointer(rebasing: rest)
        let count = Foundation.write(STDERR_FILENO, part.baseAddress, part.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        rest = rest.dropFirst(count)
      }
    }
  }
}
