import GraftGraph

extension Graph {
  /// Every output by the operations' definitions, in double precision.
  func reference(_ inputs: [ReferenceTensor]) -> [ReferenceTensor] {
    var values: [ValueID: ReferenceTensor] = Dictionary(uniqueKeysWithValues: zip(self.inputs, inputs))
    func value(_ id: ValueID) -> ReferenceTensor {
      if let known = values[id] { return known }
      let constant = ReferenceTensor(self.constant(id)!)
      values[id] = constant
      return constant
    }
    for node in nodes { values[node.output] = node.operation.reference(node.inputs.map(value)) }
    return outputs.map(value)
  }
}

extension ReferenceTensor {
  /// Uniform random values.
  init(_ shape: [Int], in range: ClosedRange<Double> = -1...1, _ generator: inout Generator) {
    // What a device gets is float32: the reference starts from the same numbers.
    self.init(shape, (0..<shape.reduce(1, *)).map { _ in Double(Float(Double.random(in: range, using: &generator))) })
  }
}

extension HostTensor {
  init(_ shape: [Int], in range: ClosedRange<Double> = -1...1, _ generator: inout Generator) {
    self = ReferenceTensor(shape, in: range, &generator).tensor
  }
}

/// The largest difference; infinite where a number is none, or the counts differ.
func largestError(_ found: [Float], _ expected: [Double]) -> Double {
  guard found.count == expected.count else { return .infinity }
  return zip(found, expected).reduce(0) { max($0, $1.0.isNaN ? .infinity : abs(Double($1.0) - $1.1)) }
}
