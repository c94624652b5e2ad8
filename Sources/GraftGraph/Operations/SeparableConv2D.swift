import CKernels
import GraftDevice

/// A depthwise convolution between two pointwise ones, computed in one pass over the image: what `Graph.fusingSeparable` makes of
/// three nodes, or of two where there is no expansion. (The inverted residual of Sandler et al., "MobileNetV2", 2018.)
///
/// x: [N, H, W, C], y: [N, H', W', O]. Inputs: x, then the weights and bias of each convolution in turn, then the projection's residual.
package struct SeparableConv2D: Operation {
  package static let kind = "separableConv2D"
  /// Pointwise; `nil`: the depthwise convolution acts on x itself.
  package var expansion: Conv2D?
  package var depthwise: Conv2D
  /// Pointwise; may have a residual.
  package var projection: Conv2D

  package init(expansion: Conv2D?, depthwise: Conv2D, projection: Conv2D) {
    (self.expansion, self.depthwise, self.projection) = (expansion, depthwise, projection)
  }

  /// The inputs as each convolution takes them, without what flows from one to the next.
  private struct Parts<Element> {
    var x: Element
    var expansion: [Element] = []
    var depthwise: [Element] = []
    var projection: [Element] = []

    init?(_ operation: SeparableConv2D, _ inputs: [Element]) {
      var rest = inputs[...]
      func count(_ conv: Conv2D) -> Int { 1 + (conv.hasBias ? 1 : 0) + (conv.hasResidual ? 1 : 0) }
      let counts = [operation.expansion.map(count) ?? 0, count(operation.depthwise), count(operation.projection)]
      guard rest.count == 1 + counts.reduce(0, +), let first = rest.popFirst() else { return nil }
      x = first
      expansion = Array(rest.prefix(counts[0]))
      depthwise = Array(rest.dropFirst(counts[0]).prefix(counts[1]))
      projection = Array(rest.suffix(counts[2]))
    }
  }

  package func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    guard let parts = Parts(self, inputs) else { throw ShapeError(Self.kind, "\(inputs.count) inputs were given") }
    for conv in [expansion, projection].compactMap({ $0 }) {
      try ShapeError.expect(
        conv.groups == 1 && conv.stride == Pair(1) && conv.padding == Padding2D(), Self.kind, "the outer convolutions must be pointwise")
    }
    try ShapeError.expect(!depthwise.hasResidual && expansion?.hasResidual != true, Self.kind, "only the projection may have a residual")
    let expanded = try expansion?.outputType([parts.x] + parts.expansion) ?? parts.x
    let filtered = try depthwise.outputType([expanded] + parts.depthwise)
    try ShapeError.expect(
      depthwise.groups == expanded.shape[3] && filtered.shape[3] == expanded.shape[3], Self.kind, "the middle convolution must be depthwise")
    return try projection.outputType([filtered] + parts.projection)
  }

  /// What flows from one convolution to the next.
  struct Flow {
    let x, expanded, filtered, output: TensorType
    let depthwise: Conv2D
    /// Extents of the depthwise kernel.
    let kernel: Pair
  }

  /// Our own invariant: the inputs passed `outputType`.
  private func flow(_ parts: Parts<TensorType>) -> Flow {
    let expanded = try! expansion?.outputType([parts.x] + parts.expansion) ?? parts.x
    let filtered = try! depthwise.outputType([expanded] + parts.depthwise)
    return Flow(
      x: parts.x, expanded: expanded, filtered: filtered, output: try! projection.outputType([filtered] + parts.projection), depthwise: depthwise,
      kernel: Pair(parts.depthwise[0].shape[2], parts.depthwise[0].shape[3]))
  }

  package func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let parts = Parts(self, inputs)!
    let expanded = expansion?.reference([parts.x] + parts.expansion) ?? parts.x
    return projection.reference([depthwise.reference([expanded] + parts.depthwise)] + parts.projection)
  }

  package func flops(_ inputs: [TensorType], _ output: TensorType) -> Double {
    let parts = Parts(self, inputs)!, flow = flow(parts)
    return expansionFlops(parts, flow) + depthwise.flops([flow.expanded] + parts.depthwise, flow.filtered)
      + projection.flops([flow.filtered] + parts.projection, output)
  }

  private func expansionFlops(_ parts: Parts<TensorType>, _ flow: Flow) -> Double {
    expansion?.flops([parts.x] + parts.expansion, flow.expanded) ?? 0
  }

  /// Whether the device has a kernel for it that is faster than its convolutions one by one.
  func isWorthwhile(_ inputs: [TensorType], traits: DeviceTraits, precision: Precision) -> Bool {
    guard let parts = Parts(self, inputs) else { return false }
    let flow = flow(parts), workers = traits.threadCount > 0 ? traits.threadCount : max(1, traits.computeUnits)
    guard let tiling = SeparableTiling(flow, traits: traits, precision: precision) else { return false }
    return tiling.isFaster(
      flow, expansionFlops: expansionFlops(parts, flow), allFlops: flops(inputs, flow.output),
      weightByteCount: ((parts.expansion.first?.byteCount ?? 0) + parts.projection[0].byteCount) / 4 * precision.byteCount, workers: workers)
  }

  package func acceptsRowStride(input: Int) -> Bool {
    let parameters = [expansion, depthwise, projection].compactMap { $0 }.reduce(0) { $0 + ($1.hasBias ? 2 : 1) }
    return input == 0 || input > parameters
  }
  package var producesRowStride: Bool { true }

  package func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    hasImages.indices.allSatisfy { hasImages[$0] == acceptsRowStride(input: $0) }
  }

  package func lower(_ context: inout LoweringContext) throws {
    let parts = Parts(self, context.inputs)!, types = Parts(self, context.inputs.map(context.type))!, flow = flow(types)
    guard let tiling = SeparableTiling(flow, traits: context.traits, precision: context.precision) else {
      throw LoweringError(context, "this device's kernels compute its convolutions one by one")
    }
    let (xs, ys) = (context.shape(parts.x), context.shape(context.output)), channels = flow.expanded.shape[3]
    let residual = projection.hasResidual ? parts.projection.last : nil
    func parameters(_ conv: Conv2D?) -> GraftEpilogue {
      epilogue(conv?.activation ?? .none, hasBias: conv?.hasBias ?? false, hasResidual: conv?.hasResidual ?? false)
    }
    let p = GraftSeparableParams(
      scratchPerItem: Int64(tiling.scratchElementCount), n: Int32(xs[0]), h: Int32(xs[1]), w: Int32(xs[2]), c: Int32(xs[3]), e: Int32(channels),
      oh: Int32(ys[1]), ow: Int32(ys[2]), oc: Int32(ys[3]), kh: Int32(flow.kernel.h), kw: Int32(flow.kernel.w),
      strideH: Int32(depthwise.stride.h), strideW: Int32(depthwise.stride.w), padH: Int32(depthwise.padding.top),
      padW: Int32(depthwise.padding.left), ldx: Int32(context.rowStride(parts.x)), ldy: Int32(context.rowStride(context.output)),
      ldr: residual.map { Int32(context.rowStride($0)) } ?? 0, hasExpansion: expansion == nil ? 0 : 1, rowsPerStep: Int32(tiling.rowsPerStep),
      ringRows: Int32(tiling.ringRows), ringWidth: Int32(tiling.ringWidth), ringStride: Int32(tiling.ringStride), items: Int32(tiling.itemCount),
      expansion: parameters(expansion),
      depthwise: parameters(depthwise), projection: parameters(projection))
    let expansionWeights = parts.expansion.first.map { context.packedConvolution($0, groups: 1) }
    let depthwiseWeights = context.packedDepthwise(parts.depthwise[0])
    let projectionWeights = context.packedConvolution(parts.projection[0], groups: 1)
    func bias(_ conv: Conv2D?, _ inputs: [ValueID]) -> Operand? { conv?.hasBias == true ? context.parameter(inputs[1]) : nil }
    let biases = (bias(expansion, parts.expansion), bias(depthwise, parts.depthwise), bias(projection, parts.projection))
    let x = context.stored(parts.x), added = residual.map { context.stored($0) }
    let scratch = context.scratch(elementCount: tiling.itemCount * tiling.scratchElementCount)
    context.launch(
      "separable", "separable",
      [
        x, expansionWeights, biases.0, depthwiseWeights, biases.1, projectionWeights, biases.2, added, scratch, .value(context.output),
      ], p, grid: Grid(tiling.itemCount))
  }
}
