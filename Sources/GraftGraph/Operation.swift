import GraftDevice

/// What a graph can compute: attributes, shape rule, reference, gradient, cost and kernels of one operation, declared once.
///
/// `OperationList.all` names every one; tests and benchmarks walk that list.
public protocol Operation: Sendable, Hashable {
  /// Its name in listings and errors: "conv2D".
  static var kind: String { get }

  /// The type of the result.
  ///
  /// - Throws: `ShapeError` with what was expected and what was found.
  func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType

  /// The definition, in double precision and with no regard for speed: what kernels are tested against, and what folds constants.
  func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor

  /// Adds the nodes that compute the gradients of the inputs from `upstream`, the gradient of the result.
  ///
  /// - Returns: one value an input; `nil` where no gradient flows (integers, masks) or none was asked for.
  func gradient(_ context: inout GradientContext) throws -> [ValueID?]

  /// Arithmetic on one run.
  func flops(_ inputs: [TensorType], _ output: TensorType) -> Double

  /// Appends the launches that compute the node on the context's device.
  func lower(_ context: inout LoweringContext) throws

  /// Whether the kernels can read this input when its rows lie further apart than its channels (a slice of a wider tensor).
  func acceptsRowStride(input: Int) -> Bool
  /// Whether the kernels can write such a result.
  var producesRowStride: Bool { get }
  /// Bytes that kernels read besides the constants' own, where weights are kept transformed and larger.
  func extraWeightByteCount(_ inputs: [TensorType], _ output: TensorType, _ traits: DeviceTraits, _ options: PlanOptions) -> Int
  /// Whether the result is the first input's memory under another shape.
  var isView: Bool { get }
  /// Whether the result is float32 in a plan of whatever format: sums and losses.
  var resultIsFloat32: Bool { get }
  /// Inputs that the launches overwrite, which have to be variables; the result is the first of them as it is afterwards, in its
  /// memory. Nothing that comes later in the graph may read the variables themselves.
  var mutatedInputs: [Int] { get }
  /// Whether image i of the result (its first dimension) is a function of image i of the inputs that have images, and of the
  /// others as a whole: such a node can be computed a few images at a time, and its launches follow the context's shapes.
  ///
  /// `hasImages` tells, an input, whether its first dimension counts images. At least one does.
  func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool
}

extension Operation {
  public var kind: String { Self.kind }
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] { throw GradientError(operation: kind, node: context.node.name) }
  public func acceptsRowStride(input: Int) -> Bool { false }
  public var producesRowStride: Bool { false }
  public var isView: Bool { false }
  public var resultIsFloat32: Bool { false }
  public var mutatedInputs: [Int] { [] }
  public func extraWeightByteCount(_ inputs: [TensorType], _ output: TensorType, _ traits: DeviceTraits, _ options: PlanOptions) -> Int { 0 }
  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { false }
  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(output.elementCount) }
}

/// An operation that can't take the inputs it was given.
public struct ShapeError: Error, CustomStringConvertible, Sendable {
  public let operation: String
  /// The model's name for the node, if it has one.
  public let node: String
  public let message: String

  public init(_ operation: String, _ message: String, node: String = "") {
    (self.operation, self.message, self.node) = (operation, message, node)
  }

  func at(_ node: String) -> ShapeError { self.node.isEmpty ? ShapeError(operation, message, node: node) : self }

  public var description: String { "\(operation)\(node.isEmpty ? "" : " '\(node)'"): \(message)" }
}

/// A request for the gradient of an operation that has no rule.
public struct GradientError: Error, CustomStringConvertible, Sendable {
  public let operation: String
  public let node: String
  public var description: String {
    "there is no gradient rule for \(operation)\(node.isEmpty ? "" : " '\(node)'"): choose a cut after it, so that it stays frozen"
  }
}

/// A tensor of the naive reference: double precision, row-major.
public struct ReferenceTensor: Sendable, Equatable {
  public var shape: [Int]
  public var values: [Double]

  public init(_ shape: [Int], _ values: [Double]) {
    precondition(values.count == shape.reduce(1, *))
    (self.shape, self.values) = (shape, values)
  }

  public init(zeros shape: [Int]) { self.init(shape, Array(repeating: 0, count: shape.reduce(1, *))) }
  public init(_ tensor: HostTensor) { self.init(tensor.shape, tensor.doubles()) }

  public var tensor: HostTensor { HostTensor(shape, values.map(Float.init)) }

  /// Row-major strides of the shape.
  public var strides: [Int] { rowMajorStrides(shape) }

  /// A tensor whose element at each index is `body(index)`.
  public init(_ shape: [Int], _ body: ([Int]) -> Double) {
    var index = [Int](repeating: 0, count: shape.count)
    let count = shape.reduce(1, *)
    var values: [Double] = []
    values.reserveCapacity(count)
    for _ in 0..<count {
      values.append(body(index))
      for d in shape.indices.reversed() {
        index[d] += 1
        if index[d] < shape[d] { break }
        index[d] = 0
      }
    }
    self.init(shape, values)
  }

  /// A tensor whose elements are functions of those of one or two others, which each dimension moves along by its strides.
  init(
    _ shape: [Int], _ a: (start: Int, strides: [Int]), _ b: (start: Int, strides: [Int]) = (0, []), _ body: (_ a: Int, _ b: Int) -> Double
  ) {
    var values: [Double] = []
    values.reserveCapacity(shape.reduce(1, *))
    walk(shape, a, b) { values.append(body($0, $1)) }
    self.init(shape, values)
  }

  public subscript(_ index: [Int]) -> Double { values[zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }] }
}

/// Calls `body` once an index of a shape, in row-major order, with two places that each dimension moves along by its strides.
package func walk(
  _ shape: [Int], _ a: (start: Int, strides: [Int]), _ b: (start: Int, strides: [Int]), _ body: (_ a: Int, _ b: Int) -> Void
) {
  guard !shape.contains(0) else { return }
  let length = shape.last ?? 1, rows = shape.dropLast().reduce(1, *)
  let (stepA, stepB) = (a.strides.last ?? 0, b.strides.last ?? 0)
  var index = [Int](repeating: 0, count: max(0, shape.count - 1))
  for _ in 0..<rows {
    let firstA = zip(index, a.strides).reduce(a.start) { $0 + $1.0 * $1.1 }, firstB = zip(index, b.strides).reduce(b.start) { $0 + $1.0 * $1.1 }
    for i in 0..<length { body(firstA + i * stepA, firstB + i * stepB) }
    for d in index.indices.reversed() {
      index[d] += 1
      if index[d] < shape[d] { break }
      index[d] = 0
    }
  }
}

/// Distances between neighbours in each dimension of a dense row-major tensor.
public func rowMajorStrides(_ shape: [Int]) -> [Int] {
  var strides = [Int](repeating: 1, count: shape.count)
  for d in shape.indices.dropLast().reversed() { strides[d] = strides[d + 1] * shape[d + 1] }
  return strides
}

extension ShapeError {
  static func expect(_ condition: Bool, _ operation: String, _ message: @autoclosure () -> String) throws(ShapeError) {
    if !condition { throw ShapeError(operation, message()) }
  }
}
