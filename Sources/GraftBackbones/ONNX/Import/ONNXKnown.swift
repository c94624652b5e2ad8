import Foundation
import GraftGraph

/// Comparisons, conditions and sequences. Exporters compute masks, positions and tables with them, so that most are known when the
/// file is read and are computed here; some also work on data.
extension ONNXImporter {
  static let knownHandlers: [String: Handler] = [
    "Equal": { try $0.compare($1, .equal) },
    "Greater": { try $0.compare($1, .greater) },
    "Less": { try $0.compare($1, .less) },
    "GreaterOrEqual": { try $0.compare($1, .greaterOrEqual) },
    "LessOrEqual": { try $0.compare($1, .lessOrEqual) },
    "And": { try $0.combine($1, .and) },
    "Or": { try $0.combine($1, .or) },
    "Xor": { try $0.combine($1, .xor) },
    "Not": { try $0.not($1) },
    "Where": { try $0.select($1) },
    "Mod": { try $0.modulo($1) },
    "Floor": { try $0.knownUnary($1) { $0.rounded(.down) } },
    "Ceil": { try $0.knownUnary($1) { $0.rounded(.up) } },
    "Round": { try $0.knownUnary($1) { $0.rounded(.toNearestOrEven) } },
    "Sign": { try $0.knownUnary($1) { $0 > 0 ? 1 : $0 < 0 ? -1 : 0 } },
    "Sin": { try $0.knownUnary($1, Foundation.sin) },
    "Cos": { try $0.knownUnary($1, Foundation.cos) },
    "Range": { try $0.range($1) },
    "CumSum": { try $0.cumulativeSum($1) },
    "NonZero": { try $0.nonZero($1) },
    "OneHot": { try $0.oneHot($1) },
    "Trilu": { try $0.triangle($1) },
    "EyeLike": { try $0.identityMatrix($1) },
  ]

  private static let integer = HostTensor([], integers: [0])

  // MARK: Element by element

  /// `body` of each pair of elements, the two tensors broadcast against one another; of integers if `like` is.
  mutating func elementwise(
    _ node: ONNXNode, _ tensors: [HostTensor], like: HostTensor, _ body: (Double, Double) throws -> Double
  ) throws -> HostTensor {
    let (shape, operands) = try spread(node, tensors)
    return try hostTensor(shape, try zip(operands[0], operands[1]).map { try body($0, $1) }, like: like, node)
  }

  /// The elements of tensors that broadcast against one another, each repeated to the common shape.
  private mutating func spread(_ node: ONNXNode, _ tensors: [HostTensor]) throws -> (shape: [Int], operands: [[Double]]) {
    var shape: [Int] = []
    for tensor in tensors {
      guard let wider = broadcastShape(shape, tensor.shape) else {
        throw node.error("its inputs \(tensors.map(\.shape)) do not broadcast", remedy: ImportError.fetchAgain)
      }
      shape = wider
    }
    try reserve(node, shape, .int64, limit: Self.largestComputed)
    return (shape, tensors.map { $0.expanded(to: shape).doubles() })
  }

  /// A tensor of these elements: of integers, rounded towards zero, if `other` is of integers.
  func hostTensor(_ shape: [Int], _ values: [Double], like other: HostTensor, _ node: ONNXNode) throws -> HostTensor {
    if other.elementType.isFloatingPoint { return HostTensor(shape, values.map(Float.init)) }
    let integers = try values.map { value -> Int64 in
      guard value.isFinite else { throw node.error("it computes \(value), which is no integer", remedy: ImportError.fetchAgain) }
      // The greatest integers stand for "to the end", and are no doubles.
      return Int64(exactly: value.rounded(.towardZero)) ?? (value < 0 ? .min : .max)
    }
    return HostTensor(shape, integers: integers)
  }

  /// A function that no kernel computes, of what is known.
  private mutating func knownUnary(_ node: ONNXNode, _ body: (Double) -> Double) throws {
    guard let x = try known(node, 0) else {
      throw node.error("it works on values that depend on the data, and is read for constants only", remedy: "Export the model without it.")
    }
    try reserve(node, x.shape, .int64, limit: Self.largestComputed)
    define(node, host: try hostTensor(x.shape, x.doubles().map(body), like: x, node))
  }

  /// The remainder; of the divisor's sign, or with `fmod` of the dividend's.
  private mutating func modulo(_ node: ONNXNode) throws {
    let a = try host(node, 0, "dividend"), b = try host(node, 1, "divisor")
    let keepsSign = try node.integer("fmod") ?? 0 != 0
    let result = try elementwise(node, [a, b], like: a) { x, y in
      let rest = fmod(x, y)
      return keepsSign || rest == 0 || (rest < 0) == (y < 0) ? rest : rest + y
    }
    define(node, host: result)
  }

  // MARK: Conditions

  enum Relation { case equal, greater, less, greaterOrEqual, lessOrEqual }
  enum Connective { case and, or, xor }

  /// A condition is 1 where it holds, 0 elsewhere.
  private mutating func compare(_ node: ONNXNode, _ relation: Relation) throws {
    if let a = try known(node, 0), let b = try known(node, 1) {
      let result = try elementwise(node, [a, b], like: Self.integer) { a, b in
        let holds =
          switch relation {
          case .equal: a == b
          case .greater: a > b
          case .less: a < b
          case .greaterOrEqual: a >= b
          case .lessOrEqual: a <= b
          }
        return holds ? 1 : 0
      }
      return define(node, host: result)
    }
    let (a, b) = (try value(node, 0), try value(node, 1))
    let y =
      switch relation {
      case .equal: try add(Binary(.equal), [a, b], node)
      case .greater: try add(Binary(.greater), [a, b], node)
      case .less: try add(Binary(.greater), [b, a], node)
      case .greaterOrEqual: try atLeast(a, b, node)
      case .lessOrEqual: try atLeast(b, a, node)
      }
    try define(node, y)
  }

  /// a ≥ b; neither holds of what is no number.
  private mutating func atLeast(_ a: ValueID, _ b: ValueID, _ node: ONNXNode) throws -> ValueID {
    try add(Binary(.maximum), [try add(Binary(.greater), [a, b], node), try add(Binary(.equal), [a, b], node)], node)
  }

  private mutating func combine(_ node: ONNXNode, _ connective: Connective) throws {
    if let a = try known(node, 0), let b = try known(node, 1) {
      let result = try elementwise(node, [a, b], like: Self.integer) { a, b in
        switch connective {
        case .and: a * b
        case .or: max(a, b)
        case .xor: a == b ? 0 : 1
        }
      }
      return define(node, host: result)
    }
    let operands = [try value(node, 0), try value(node, 1)]
    let y =
      switch connective {
      case .and: try add(Binary(.multiply), operands, node)
      case .or: try add(Binary(.maximum), operands, node)
      case .xor: try opposite(try add(Binary(.equal), operands, node), node)
      }
    try define(node, y)
  }

  private mutating func not(_ node: ONNXNode) throws {
    if let x = try known(node, 0) {
      return define(node, host: HostTensor(x.shape, integers: x.doubles().map { $0 == 0 ? 1 : 0 }))
    }
    try define(node, try opposite(try value(node, 0), node))
  }

  /// 1 − x.
  mutating func opposite(_ x: ValueID, _ node: ONNXNode) throws -> ValueID {
    try add(Binary(.subtract), [graph.addConstant(HostTensor([], [1]), isFixed: true), x], node)
  }

  /// Elements of the second input where the condition holds, else of the third.
  private mutating func select(_ node: ONNXNode) throws {
    guard let condition = try known(node, 0) else { return try selectByData(node) }
    let choices = try (1...2).map { try imported(node, $0) }
    if let chosen = onlyOutcome(of: condition).map({ $0 ? 1 : 2 }) {
      // One of them as a whole.
      let target = choices.reduce(Optional(condition.shape)) { shape, choice in shape.flatMap { broadcastShape($0, self.shape(of: choice)) } }
      guard let target else { throw node.error("its inputs do not broadcast", remedy: ImportError.fetchAgain) }
      return try expand(node, input: chosen, to: target)
    }
    let tensors = try (1...2).map { try known(node, $0) }
    if let a = tensors[0], let b = tensors[1] {
      let (shape, operands) = try spread(node, [condition, a, b])
      let values = operands[0].indices.map { operands[operands[0][$0] != 0 ? 1 : 2][$0] }
      return define(node, host: try hostTensor(shape, values, like: a, node))
    }
    // What is not chosen becomes 0, and the sum of both is the result.
    var parts: [ValueID] = []
    for (position, tensor) in tensors.enumerated() {
      let isFirst = position == 0
      if let tensor {
        let part = try elementwise(node, [condition, tensor], like: HostTensor([], [0])) { ($0 != 0) == isFirst ? $1 : 0 }
        parts.append(graph.addConstant(part, isFixed: true))
      } else {
        let mask = graph.addConstant(HostTensor(condition.shape, condition.doubles().map { ($0 != 0) == isFirst ? 1 : 0 }), isFixed: true)
        parts.append(try add(Binary(.masked), [try value(node, position + 1), mask], node))
      }
    }
    try define(node, try add(Binary(.add), parts, node))
  }

  /// Whether the condition holds everywhere or nowhere; nil if elements differ, or there are none.
  private func onlyOutcome(of condition: HostTensor) -> Bool? {
    let holds = condition.doubles().map { $0 != 0 }
    return holds.first.flatMap { first in holds.allSatisfy { $0 == first } ? first : nil }
  }

  private mutating func selectByData(_ node: ONNXNode) throws {
    if try replacesNaN(node) { return }
    let condition = try value(node, 0)
    let a = try add(Binary(.masked), [try value(node, 1), condition], node)
    let b = try add(Binary(.masked), [try value(node, 2), try opposite(condition, node)], node)
    try define(node, try add(Binary(.add), [a, b], node))
  }

  // MARK: Sequences

  private mutating func range(_ node: ONNXNode) throws {
    let tensors = [try host(node, 0, "start"), try host(node, 1, "limit"), try host(node, 2, "delta")]
    let numbers = tensors.compactMap { $0.elementCount == 1 ? $0.doubles()[0] : nil }
    guard numbers.count == 3, numbers.allSatisfy(\.isFinite), numbers[2] != 0 else {
      throw node.error("its start, limit and delta are no three numbers that make a sequence", remedy: ImportError.fetchAgain)
    }
    let count = max(0, ((numbers[1] - numbers[0]) / numbers[2]).rounded(.up))
    guard count <= Double(Self.largestComputed) else { throw node.error("it asks for \(count) numbers", remedy: ImportError.fetchAgain) }
    try reserve(node, [Int(count)], .int64)
    define(node, host: try hostTensor([Int(count)], (0..<Int(count)).map { numbers[0] + Double($0) * numbers[2] }, like: tensors[0], node))
  }

  private mutating func cumulativeSum(_ node: ONNXNode) throws {
    let x = try host(node, 0, "input"), rank = x.shape.count
    let axis = try axis(node, Int(try host(node, 1, "axis").integers().first ?? 0), rank: rank)
    let isExclusive = try node.integer("exclusive") ?? 0 != 0, isReversed = try node.integer("reverse") ?? 0 != 0
    try reserve(node, x.shape, .int64, limit: Self.largestComputed)
    var values = x.doubles()
    let extent = x.shape[axis], inner = x.shape[(axis + 1)...].reduce(1, *)
    for start in 0..<(extent == 0 ? 0 : values.count / extent) {
      var sum = 0.0
      for step in 0..<extent {
        let place = (start / inner * extent + (isReversed ? extent - 1 - step : step)) * inner + start % inner
        let term = values[place]
        values[place] = isExclusive ? sum : sum + term
        sum += term
      }
    }
    define(node, host: try hostTensor(x.shape, values, like: x, node))
  }

  /// Places of the elements that are not 0, a column each.
  private mutating func nonZero(_ node: ONNXNode) throws {
    let x = try host(node, 0, "input"), strides = rowMajorStrides(x.shape)
    let places = x.doubles().indices(where: { $0 != 0 }).ranges.flatMap { Array($0) }
    try reserve(node, [x.shape.count, places.count], .int64, limit: Self.largestComputed)
    let rows = x.shape.indices.flatMap { d in places.map { Int64($0 / strides[d] % x.shape[d]) } }
    define(node, host: HostTensor([x.shape.count, places.count], integers: rows))
  }

  private mutating func oneHot(_ node: ONNXNode) throws {
    let indices = try host(node, 0, "indices"), values = try host(node, 2, "values")
    guard let depth = try host(node, 1, "depth").integers().first, depth > 0, values.elementCount == 2 else {
      throw node.error("it has no positive depth or no two values", remedy: ImportError.fetchAgain)
    }
    let axis = try axis(node, try node.integer("axis") ?? -1, rank: indices.shape.count + 1)
    var shape = indices.shape
    shape.insert(Int(depth), at: axis)
    try reserve(node, shape, .int64, limit: Self.largestComputed)
    let (off, on) = (values.doubles()[0], values.doubles()[1]), inner = indices.shape[axis...].reduce(1, *)
    var result = [Double](repeating: off, count: shape.reduce(1, *))
    for (place, index) in indices.integers().enumerated() where index >= -depth && index < depth {
      let hot = Int(index < 0 ? index + depth : index)
      result[(place / inner * Int(depth) + hot) * inner + place % inner] = on
    }
    define(node, host: try hostTensor(shape, result, like: values, node))
  }

  /// 1 on a diagonal and 0 elsewhere, of the input's shape.
  private mutating func identityMatrix(_ node: ONNXNode) throws {
    let source = try imported(node, 0), shape = shape(of: source), k = try node.integer("k") ?? 0
    guard shape.count == 2 else { throw node.error("its input \(shape) is no matrix", remedy: ImportError.fetchAgain) }
    let type = try elementType(node, "dtype") ?? elementType(of: source)
    try reserve(node, shape, .int64, limit: Self.largestComputed)
    let values = (0..<shape[0] * shape[1]).map { $0 % shape[1] - $0 / shape[1] == k ? 1.0 : 0 }
    define(node, host: try hostTensor(shape, values, like: .empty([0], type), node))
  }

  /// The upper or the lower triangle of matrices, 0 elsewhere.
  private mutating func triangle(_ node: ONNXNode) throws {
    let x = try host(node, 0, "input")
    let k = has(node, 1) ? Int(clamping: try host(node, 1, "diagonal").integers().first ?? 0) : 0
    let isUpper = try node.integer("upper") ?? 1 != 0
    guard x.shape.count >= 2 else { throw node.error("its input \(x.shape) is no matrix", remedy: ImportError.fetchAgain) }
    let (rows, columns) = (x.shape[x.shape.count - 2], x.shape[x.shape.count - 1])
    try reserve(node, x.shape, .int64, limit: Self.largestComputed)
    let values = x.doubles().enumerated().map { place, value in
      let (row, column) = (place / columns % rows, place % columns)
      let isOn = isUpper ? column - row >= k : column - row <= k
      return isOn ? value : 0
    }
    define(node, host: try hostTensor(x.shape, values, like: x, node))
  }
}
