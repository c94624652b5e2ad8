import Foundation

/// One direction of a plot: the range of its values, where ticks are, and what they say.
struct Axis {
  struct Tick {
    let value: Double
    let text: String
  }

  let low, high: Double
  let ticks: [Tick]
  let label: String
  let isLogarithmic: Bool

  /// - Parameters:
  ///   - values: what must be seen; an empty range, or numbers that are none, give a range around them.
  ///   - bounds: what the axis never goes beyond.
  ///   - ticks: how many are wanted.
  init(_ values: [Double], label: String, bounds: ClosedRange<Double> = -.infinity ... .infinity, ticks wanted: Int = 6, whole: Bool = false) {
    let finite = values.filter(\.isFinite)
    var (low, high) = (finite.min() ?? 0, finite.max() ?? 1)
    if high - low <= 1e-9 * max(abs(low), abs(high)) {
      let around = max(abs(low) * 0.1, 0.05)
      (low, high) = (low - around, high + around)
    }
    var step = Self.niceStep((high - low) / Double(max(1, wanted)))
    if whole { step = max(1, step.rounded()) }
    low = max((low / step).rounded(.down) * step, bounds.lowerBound)
    high = min((high / step).rounded(.up) * step, bounds.upperBound)
    if whole { (low, high) = (finite.min() ?? 0, max(finite.max() ?? 1, (finite.min() ?? 0) + 1)) }
    (self.low, self.high, self.label, isLogarithmic) = (low, high, label, false)
    let first = (low / step - 1e-9).rounded(.up), last = (high / step + 1e-9).rounded(.down)
    guard last >= first, last - first < 1000 else {
      ticks = []
      return
    }
    ticks = stride(from: first, through: last, by: 1).map { Tick(value: $0 * step, text: Self.text($0 * step, step: step)) }
  }

  /// A logarithmic axis with ticks where the values are.
  init(logarithmic values: [(value: Double, text: String)], label: String) {
    let known = values.filter { $0.value > 0 && $0.value.isFinite }
    let (low, high) = (known.map(\.value).min() ?? 1, known.map(\.value).max() ?? 10)
    (self.low, self.high) = high > low ? (low, high) : (low / 2, high * 2)
    (self.label, isLogarithmic) = (label, true)
    ticks = known.map { Tick(value: $0.value, text: $0.text) }
  }

  /// Where a value lies, 0 to 1.
  func place(_ value: Double) -> Double {
    isLogarithmic ? (log(max(value, .leastNormalMagnitude)) - log(low)) / (log(high) - log(low)) : (value - low) / (high - low)
  }

  /// 1, 2 or 5 times a power of ten, the least that is no smaller.
  static func niceStep(_ step: Double) -> Double {
    guard step > 0, step.isFinite else { return 1 }
    let power = pow(10, log10(step).rounded(.down))
    return ([1, 2, 5].first { $0 * power >= step * (1 - 1e-9) } ?? 10) * power
  }

  /// As many decimals as the step has; of large numbers and small steps as many digits as tell one step from the next.
  static func text(_ value: Double, step: Double) -> String {
    if value != 0, abs(value) >= 1e6 || step < 1e-4 {
      let power = { (number: Double) in Int((log10(number) + 1e-9).rounded(.down)) }
      return String(format: "%.\(max(1, min(17, power(abs(value)) - power(step) + 1)))g", value)
    }
    return String(format: "%.\(max(0, Int((-log10(step)).rounded(.up))))f", value == 0 ? 0 : value)
  }
}
