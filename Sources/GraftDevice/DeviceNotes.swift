import Foundation
import Synchronization

/// Where this layer says what is worth knowing and is no error: a driver left out, a cache that cannot be used.
package enum DeviceNotes {
  private static let handler = Mutex<@Sendable (String) -> Void>(standardError)

  /// Says one sentence.
  package static func note(_ message: String) {
    let current = handler.withLock { $0 }
    current(message)
  }

  /// Sends the notes elsewhere; by default they go to standard error.
  package static func setHandler(_ new: @escaping @Sendable (String) -> Void) {
    handler.withLock { $0 = new }
  }

  @Sendable private static func standardError(_ message: String) {
    FileHandle.standardError.write(Data("graft: note: \(message)\n".utf8))
  }
}
