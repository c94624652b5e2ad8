import Foundation
import Graft
import Testing

/// EfficientNet-Lite0's own weights, from the `.pth` on, against ONNX Runtime's features of the ONNX form
/// (Tools/reference/efficientnet_features.py).
@Suite(.enabled(if: FetchedWeights.path != nil, "run Tools/fetch efficientnet-lite0 first"))
struct RealWeightsTests {
  /// Bounds relative to the largest feature, 5.4: for float32 an error of 1e-5, for shorter formats about twice what was measured.
  @Test(arguments: [(Precision.float32, Float(1.8e-6)), (.bfloat16, 0.02), (.float16, 2e-3)])
  func featuresAreThoseOfTheONNXForm(_ precision: Precision, _ bound: Float) throws {
    let expected = try #require(try SafetensorsFile(path: Fixture.path("efficientnet-lite0.features.safetensors"))["features"]).floats()
    let graph = try Backbone(path: try #require(FetchedWeights.path)).graph(inputShape: [1, 3, 224, 224])
    var frozen = graph
    frozen.outputs = [try #require(graph.value(named: "features"))]
    #expect(graph.defaultCut() == frozen.outputs[0])
    let plan = try Plan(frozen, device: Devices.choose("cpu"), options: PlanOptions(precision: precision))
    let input: [Float] = (0..<3 * 224 * 224).map { index in
      let scrambled = UInt64(index) * 2_654_435_761 % 4_294_967_296
      return Float(Double(scrambled) / 2_147_483_648 - 1)
    }
    try plan.write(input, to: plan.graph.inputs[0])
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0])
    #expect(found.count == 1280 && expected.count == 1280)
    #expect(expected.contains { $0 > 1 }, "features of zeros test nothing")
    let error = zip(found, expected).reduce(Float(0)) { max($0, $1.0.isNaN ? .infinity : abs($1.0 - $1.1)) }
    let largest = expected.reduce(0, max)
    #expect(error < bound * largest, "largest difference \(error) where features reach \(largest)")
  }
}
