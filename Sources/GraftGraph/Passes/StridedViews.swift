/// A value as a part of another's memory: what reshapes, transpositions and slices come down to, without a copy.
///
/// Each dimension is a list of factors, outermost first, so that dimensions may be merged whose parts lie apart.
struct StridedView {
  struct Factor: Equatable { var extent, stride: Int }

  /// What lies dense in memory.
  var root: ValueID
  var offset = 0
  var dimensions: [[Factor]]
  /// What the root is multiplied with on the way.
  var scale = 1.0
}

extension Graph {
  /// A value as a view of what the first node before it computes that is no reshape, transposition or slice, nor, with
  /// `followsScales`, a product with one number.
  func view(of id: ValueID, followsScales: Bool) -> StridedView {
    let shape = type(of: id).shape
    let whole = StridedView(root: id, dimensions: zip(shape, rowMajorStrides(shape)).map { [.init(extent: $0, stride: $1)] })
    guard let node = producer(of: id) else { return whole }
    if followsScales, let (input, factor) = scalarFactor(node), type(of: input).shape == shape {
      var view = view(of: input, followsScales: true)
      view.scale *= factor
      return view
    }
    guard node.operation is Transpose || node.operation is Reshape || node.operation is Slice else { return whole }
    var view = view(of: node.inputs[0], followsScales: followsScales)
    switch node.operation {
    case let transpose as Transpose: view.dimensions = transpose.permutation.map { view.dimensions[$0] }
    case is Reshape:
      guard let dimensions = view.regrouped(to: shape) else { return whole }
      view.dimensions = dimensions
    case let slice as Slice:
      for (d, old) in type(of: node.inputs[0]).shape.enumerated() where slice.starts[d] != 0 || slice.sizes[d] != old || slice.steps[d] != 1 {
        // A part of several factors is no list of factors.
        guard view.dimensions[d].count == 1 else { return whole }
        view.offset += slice.starts[d] * view.dimensions[d][0].stride
        view.dimensions[d] = [.init(extent: slice.sizes[d], stride: view.dimensions[d][0].stride * slice.steps[d])]
      }
    default: return whole
    }
    return view
  }

  /// With every chain of reshapes, transpositions and slices that leaves the elements in their order as one reshape.
  ///
  /// What the pass for transpositions cannot see through: dimensions that were merged apart and split again, as around a product
  /// with images and heads in one dimension.
  func straighteningViews() throws -> Graph {
    var rewriter = try Rewriter(self)
    for node in nodes {
      let shape = type(of: node.output).shape
      guard node.operation is Transpose || node.operation is Reshape || node.operation is Slice, !shape.contains(0) else {
        try rewriter.keep(node)
        continue
      }
      let view = view(of: node.output, followsScales: false), count = type(of: view.root).elementCount
      let isWhole = view.offset == 0 && StridedView.merged(view.dimensions.flatMap { $0 }) == [.init(extent: count, stride: 1)]
      guard isWhole, view.root != node.output, view.root != node.inputs[0], !outputs.contains(node.output) else {
        try rewriter.keep(node)
        continue
      }
      let root = rewriter.value(view.root)
      let isSame = type(of: view.root).shape == shape
      rewriter.define(node.output, as: isSame ? root : try rewriter.add(Reshape(shape), [root], name: node.name))
    }
    return try rewriter.finished().removingDeadNodes()
  }

  /// What a node multiplies with one number, and the number.
  func scalarFactor(_ node: Node) -> (input: ValueID, factor: Double)? {
    guard let binary = node.operation as? Binary, binary.activation == .none else { return nil }
    func number(_ id: ValueID) -> Double? {
      guard let tensor = constant(id), tensor.elementCount == 1, tensor.elementType.isFloatingPoint else { return nil }
      return tensor.doubles().first
    }
    switch binary.function {
    case .multiply:
      if let factor = number(node.inputs[1]) { return (node.inputs[0], factor) }
      return number(node.inputs[0]).map { (node.inputs[1], $0) }
    case .divide: return number(node.inputs[1]).flatMap { $0 == 0 ? nil : (node.inputs[0], 1 / $0) }
    default: return nil
    }
  }
}

extension StridedView {
  /// The factors of all dimensions in order, cut into dimensions of another shape; `nil` where a cut falls between a factor's elements
  /// in a way that is none of whole strides.
  func regrouped(to shape: [Int]) -> [[Factor]]? {
    guard !shape.contains(0) else { return nil }
    var left = dimensions.flatMap { $0 }.filter { $0.extent != 1 }
    var result: [[Factor]] = []
    for extent in shape {
      var (wanted, factors) = (extent, [Factor]())
      while wanted > 1 {
        guard let factor = left.first else { return nil }
        if wanted % factor.extent == 0 {
          factors.append(factor)
          wanted /= factor.extent
          left.removeFirst()
        } else if factor.extent % wanted == 0 {
          // The outer part of a factor.
          left[0].extent = factor.extent / wanted
          factors.append(Factor(extent: wanted, stride: factor.stride * left[0].extent))
          wanted = 1
        } else {
          return nil
        }
      }
      result.append(StridedView.merged(factors))
    }
    return left.isEmpty ? result : nil
  }

  /// With neighbours that follow each other without a gap as one factor; one of extent 1 if there is none.
  static func merged(_ factors: [Factor]) -> [Factor] {
    var result: [Factor] = []
    for factor in factors where factor.extent != 1 {
      if let last = result.last, last.stride == factor.stride * factor.extent {
        result[result.count - 1] = Factor(extent: last.extent * factor.extent, stride: factor.stride)
      } else {
        result.append(factor)
      }
    }
    return result.isEmpty ? [Factor(extent: 1, stride: 1)] : result
  }

  /// The stride of a dimension of one factor; 0 where there is one element.
  func stride(_ dimension: Int) -> Int? {
    let factors = dimensions[dimension].filter { $0.extent != 1 }
    return factors.count > 1 ? nil : factors.first?.stride ?? 0
  }
}
