/// A line of progress that is rewritten on a terminal, and an occasional line elsewhere.
final class ProgressLine {
  private let console: Console
  private var lastTime: ContinuousClock.Instant?
  private var isOpen = false
  init(_ console: Console) { self.console = console }

  func show(_ text: @autoclosure () -> String) {
    guard !console.quiet else { return }
    let now = ContinuousClock.now
    let interval: Duration = console.isTerminal ? .milliseconds(100) : .seconds(10)
    if let lastTime, now - lastTime < interval { return }
    // Elsewhere than on a terminal, short runs print no progress at all.
    if lastTime == nil, !console.isTerminal {
      lastTime = now
      return
    }
    lastTime = now
    if console.isTerminal {
      Console.standardError("\r\u{1B}[K" + text())
      isOpen = true
    } else {
      Console.standardError(text() + "\n")
    }
  }

  /// Clears the line.
  func finish() {
    if isOpen { Console.standardError("\r\u{1B}[K") }
    isOpen = false
  }
}
