import CCodecs

/// The weights of one axis of a resampling, for the output positions asked for.
///
/// Output i of an axis of m positions resampled to n is centred at c = (i + ½)·s, s = m / n. Shrinking (s > 1) widens the
/// filter by s, so that every input counts: the antialiasing. With radius r = support · max(s, 1) the taps are the inputs
/// from ⌊c − r + ½⌋ up to ⌊c + r + ½⌋, cut at the borders, their weights normalised to 1 and rounded to 22 fractional bits.
/// Source: the behaviour of Pillow's `Image.resize`; double precision and the order of operations as there, because a
/// rounding decides the last bit.
struct ResampleTaps {
  private(set) var starts: [Int32] = []
  private(set) var counts: [Int32] = []
  private(set) var weights: [Int32] = []
  /// Weights from one output to the next.
  let stride: Int

  /// - Parameters:
  ///   - inputCount: m, 1 or more.
  ///   - outputCount: n, 1 or more.
  ///   - range: which outputs.
  init(from inputCount: Int, to outputCount: Int, range: Range<Int>, interpolation: Interpolation) {
    let scale = Double(inputCount) / Double(outputCount)
    guard let reach = interpolation.support else {
      stride = 1
      takeNearest(inputCount: inputCount, scale: scale, range: range)
      return
    }
    let filterScale = max(scale, 1)
    let radius = reach * filterScale
    stride = Int(radius.rounded(.up)) * 2 + 1
    starts.reserveCapacity(range.count)
    counts.reserveCapacity(range.count)
    weights.reserveCapacity(range.count * stride)
    var exact: [Double] = []
    for index in range {
      let center = (Double(index) + 0.5) * scale
      let start = max(0, Int(center - radius + 0.5))
      let end = min(inputCount, Int(center + radius + 0.5))
      exact.removeAll(keepingCapacity: true)
      var sum = 0.0
      for input in start..<max(start, end) {
        let weight = interpolation.weight((Double(input) - center + 0.5) * (1 / filterScale))
        exact.append(weight)
        sum += weight
      }
      starts.append(Int32(start))
      counts.append(Int32(exact.count))
      for weight in exact { weights.append(Self.fixedPoint(sum == 0 ? weight : weight / sum)) }
      weights.append(contentsOf: repeatElement(0, count: stride - exact.count))
    }
  }

  /// The input under each output's centre, whole. Pillow steps from centre to centre by adding, so we do.
  private mutating func takeNearest(inputCount: Int, scale: Double, range: Range<Int>) {
    var center = scale * 0.5
    for index in 0..<range.upperBound {
      if range.contains(index) {
        starts.append(Int32(min(inputCount - 1, Int(center))))
        counts.append(1)
        weights.append(Self.fixedPoint(1))
      }
      center += scale
    }
  }

  private static func fixedPoint(_ weight: Double) -> Int32 {
    let scaled = weight * Double(1 << 22)
    return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
  }

  /// The taps as the C loops see them, for as long as `body` runs.
  func withTaps<Result>(_ body: (UnsafePointer<graft_taps>) -> Result) -> Result {
    starts.withUnsafeBufferPointer { starts in
      counts.withUnsafeBufferPointer { counts in
        weights.withUnsafeBufferPointer { weights in
          var taps = graft_taps(
            output_count: UInt32(starts.count), stride: UInt32(stride), starts: starts.baseAddress, counts: counts.baseAddress,
            weights: weights.baseAddress)
          return body(&taps)
        }
      }
    }
  }
}
