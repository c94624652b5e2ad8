import GraftDevice
import GraftGraph
import Testing

/// The k greatest beside a selection that takes the first of the greatest again and again.
@Suite struct TopKTests {
  private static func order(_ row: [Float], _ count: Int) -> [Int] {
    var left = Array(row.indices), order: [Int] = []
    while order.count < count {
      var best = 0
      for place in left.indices.dropFirst() {
        let (value, greatest) = (row[left[place]], row[left[best]])
        if !greatest.isNaN, value.isNaN || value > greatest { best = place }
      }
      order.append(left.remove(at: best))
    }
    return order
  }

  enum Content: String, CaseIterable {
    case random, ties, constant, special, descending, ascending

    func row(_ columns: Int, _ generator: inout Generator) -> [Float] {
      let special: [Float] = [.nan, .infinity, -.infinity, -.nan, 0, -0.0, .leastNonzeroMagnitude, -.greatestFiniteMagnitude, 1, 1]
      return (0..<columns).map { i in
        switch self {
        case .random: Float.random(in: -1...1, using: &generator)
        case .ties: Float(Int.random(in: -2...2, using: &generator))
        case .constant: -3.5
        case .special: special[Int.random(in: special.indices, using: &generator)]
        case .descending: Float(-i)
        case .ascending: Float(i)
        }
      }
    }
  }

  /// One of one, odd widths, all of a row, few of many and many of many: both ways of the GPU family.
  static let sizes = [(1, 1), (7, 2), (7, 7), (65, 1), (131, 8), (131, 9), (257, 257), (1000, 5), (1000, 64), (1000, 63)]

  @Test(arguments: TestDevices.all, Content.allCases)
  func agreesWithASelection(_ device: TestDevice, _ content: Content) throws {
    var generator = Generator(21)
    for (columns, count) in Self.sizes {
      let rows = (0..<3).map { _ in content.row(columns, &generator) }
      var graph = Graph()
      let x = graph.addInput(TensorType([3, columns]), name: "x")
      graph.outputs = [try graph.add(TopK(count), [x])]
      let plan = try Plan(graph, device: device.make())
      try plan.write(rows.flatMap { $0 }, to: plan.graph.inputs[0])
      try plan.run()
      let found = try plan.read(plan.graph.outputs[0])
      let expected = rows.flatMap { row -> [Float] in
        let order = Self.order(row, count)
        return order.map { row[$0] } + order.map(Float.init)
      }
      // Bits: NaN is NaN, and a zero keeps its sign.
      #expect(found.map(\.bitPattern) == expected.map(\.bitPattern), "\(count) of \(columns)")
      let reference = TopK(count).reference([ReferenceTensor([3, columns], rows.flatMap { $0.map(Double.init) })])
      #expect(reference.shape == [3, 2, count] && zip(reference.values, expected).allSatisfy { $0.0 == Double($0.1) || ($0.0.isNaN && $0.1.isNaN) })
    }
  }

  /// In a shorter format values are what was stored, and indices exact beyond what that format could hold.
  @Test(arguments: TestDevices.inShortFormats) func indicesAreExactInShorterFormats(_ device: TestDevice) throws {
    let columns = 5003
    var graph = Graph()
    let x = graph.addInput(TensorType([1, columns]), name: "x")
    graph.outputs = [try graph.add(TopK(3), [try graph.add(Unary(.negate), [x])])]
    var values = [Float](repeating: 1, count: columns)
    (values[4999], values[2049], values[5002]) = (-2, -1, -1)
    let plan = try Plan(graph, device: device.make(), options: .asWritten(in: device.precision))
    try plan.write(values, to: plan.graph.inputs[0])
    try plan.run()
    #expect(try plan.read(plan.graph.outputs[0]) == [2, 1, 1, 4999, 2049, 5002])
  }

  @Test func refusesWhatThereIsNot() throws {
    for (shape, count) in [([3, 4], 5), ([3, 4], 0), ([3, 4], -1), ([3, 0], 1), ([], 1), ([1, (1 << 24) + 1], 1)] {
      #expect(throws: ShapeError.self) { try TopK(count).outputType([TensorType(shape)]) }
    }
    #expect(try TopK(4).outputType([TensorType([2, 3, 4])]).shape == [2, 3, 2, 4])
    let error = #expect(throws: ShapeError.self) { try TopK(9).outputType([TensorType([3, 4])]) }
    #expect(error?.description.contains("give 1 to 4") == true)
    #expect(throws: ShapeError.self) { try TopKGradient([3, 4]).outputType([TensorType([3, 2, 2]), TensorType([3, 2, 3])]) }
  }
}
