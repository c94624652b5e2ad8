import Foundation
import GraftTraining

/// What Tools/reference/heads.py stored.
enum Fixture {
  static func load<Value: Decodable>(_ name: String, as type: Value.Type = Value.self) throws -> Value {
    let url = Bundle.module.resourceURL!.appendingPathComponent("Fixtures").appendingPathComponent(name)
    return try JSONDecoder().decode(Value.self, from: Data(contentsOf: url))
  }
}

/// Random numbers that are the same in every run (SplitMix64).
struct Random {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func bits() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }

  /// In [0, 1).
  mutating func uniform() -> Double { Double(bits() >> 11) * 0x1p-53 }
  /// Standard normal (Box and Muller).
  mutating func normal() -> Double { (-2 * log(1 - uniform())).squareRoot() * cos(2 * .pi * uniform()) }
  mutating func index(_ count: Int) -> Int { Int(bits() % UInt64(count)) }
}

/// Softmax regression written down as the formula says, in double precision: what the code is checked against.
struct NaiveSoftmax {
  let x: [[Double]]
  let y: [Int]
  let classCount: Int
  let l2: Double

  var dimension: Int { x[0].count }
  var parameterCount: Int { classCount * (dimension + 1) }

  func logits(_ parameters: [Double], row: Int) -> [Double] {
    (0..<classCount).map { c in
      (0..<dimension).reduce(parameters[classCount * dimension + c]) { $0 + parameters[c * dimension + $1] * x[row][$1] }
    }
  }

  func probabilities(_ parameters: [Double], row: Int) -> [Double] {
    let values = logits(parameters, row: row)
    let largest = values.max()!
    let exponentials = values.map { exp($0 - largest) }
    let total = exponentials.reduce(0, +)
    return exponentials.map { $0 / total }
  }

  func loss(_ parameters: [Double]) -> Double {
    let entropy = x.indices.reduce(0) { sum, row in
      let values = logits(parameters, row: row)
      let largest = values.max()!
      return sum + log(values.reduce(0) { $0 + exp($1 - largest) }) + largest - values[y[row]]
    }
    return entropy / Double(x.count) + l2 / 2 * parameters[..<(classCount * dimension)].reduce(0) { $0 + $1 * $1 }
  }

  func gradient(_ parameters: [Double]) -> [Double] {
    var result = parameters.indices.map { $0 < classCount * dimension ? l2 * parameters[$0] : 0 }
    for row in x.indices {
      for (c, p) in probabilities(parameters, row: row).enumerated() {
        let residual = (p - (c == y[row] ? 1 : 0)) / Double(x.count)
        for d in 0..<dimension { result[c * dimension + d] += residual * x[row][d] }
        result[classCount * dimension + c] += residual
      }
    }
    return result
  }
}

/// Classes that overlap, with features of very different scales if asked.
func syntheticSamples(rows: Int, dimension: Int, classes: Int, seed: UInt64, scales: Bool = false) -> (x: [Float], y: [Int]) {
  var random = Random(seed)
  let centres = (0..<classes * dimension).map { _ in random.normal() * 0.7 }
  let scale = (0..<dimension).map { scales ? pow(10, Double($0 % 7) - 3) : 1 }
  var (x, y): ([Float], [Int]) = ([], [])
  for row in 0..<rows {
    let label = row % classes
    y.append(label)
    for column in 0..<dimension { x.append(Float(max(random.normal() + centres[label * dimension + column], -0.5) * scale[column])) }
  }
  return (x, y)
}

func labelled(_ x: [Float], _ y: [Int], chunkRowCount: Int = 2048) throws -> LabelledFeatures {
  try LabelledFeatures(features: ArrayFeatures(x, rowCount: y.count, dimension: x.count / y.count, chunkRowCount: chunkRowCount), labels: y)
}
