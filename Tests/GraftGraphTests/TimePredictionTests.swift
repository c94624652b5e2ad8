import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// The model of time: sums, limits, and how it grows. What it predicts beside what is measured is printed, not judged.
@Suite struct TimePredictionTests {
  private func prediction(_ network: Network, batch: Int, on chip: Chip) throws -> TimePrediction {
    try TimePrediction(network.graph(batch: batch), on: chip, options: .asWritten)
  }

  @Test(arguments: Network.allCases, Chip.known.map(\.identifier))
  func staysWithinTheLimits(_ network: Network, _ identifier: String) throws {
    let chip = try Chip.named(identifier)
    for batch in [1, 32] {
      let prediction = try prediction(network, batch: batch, on: chip)
      #expect(!prediction.launches.isEmpty)
      for launch in prediction.launches {
        #expect(launch.seconds.isFinite && launch.seconds > 0 && launch.seconds >= launch.limitSeconds, "\(launch)")
        #expect(launch.limitSeconds >= launch.flops / (chip.matrixGigaflopsPerSecond * 1e9))
        #expect(launch.limitSeconds >= launch.bytes / (chip.gigabytesPerSecond(byteCount: .infinity) * 1e9))
      }
      #expect(abs(prediction.seconds - prediction.launches.map(\.seconds).reduce(0, +)) <= 1e-12)
    }
  }

  /// More images take longer, and never longer an image; a large batch takes about as long an image as a larger one.
  @Test(arguments: Network.allCases) func growsWithTheBatch(_ network: Network) throws {
    let chip = try Chip.named("a100")
    let seconds = try [1, 8, 64, 128].map { try prediction(network, batch: $0, on: chip).seconds / Double($0) }
    for (small, large) in zip(seconds, seconds.dropFirst()) { #expect(large <= 1.1 * small && large >= small / 9) }
    #expect(abs(seconds[3] / seconds[2] - 1) < 0.15)
  }

  @Test func fasterChipsAreFaster() throws {
    for network in Network.allCases {
      let (slow, fast) = (try prediction(network, batch: 64, on: .named("rtx3060")), try prediction(network, batch: 64, on: .named("rtx4090")))
      #expect(fast.seconds < slow.seconds)
    }
  }

  /// What a gradient with respect to weights sums are pixels: twice as many take twice as long. A matrix unit counts.
  @Test(arguments: [ComputeFormat.float32, .float16]) func gradientsOfWeightsTakeAsLongAsTheirPixels(_ format: ComputeFormat) throws {
    let chip = try Chip.named("h200")
    func launch(batch: Int, on chip: Chip) throws -> TimePrediction.Launch {
      var graph = Graph()
      let inputs = ["x", "dy"].map { graph.addInput(TensorType([batch, 28, 28, 256]), name: $0) }
      graph.outputs = [try graph.add(Conv2DWeightGradient(of: Conv2D(padding: Padding2D(1)), size: Pair(3)), inputs)]
      let launches = try TimePrediction(graph, on: chip, options: .asWritten(computing: format)).launches
      return try #require(launches.first { ["conv_weights", "matrix_weights"].contains($0.kernel) })
    }
    let (one, two) = (try launch(batch: 128, on: chip), try launch(batch: 256, on: chip))
    #expect(one.limit == .arithmetic && one.flops == 2 * 128 * 28 * 28 * 256 * 256 * 9 && two.flops == 2 * one.flops)
    #expect((1.7...2.3).contains(two.seconds / one.seconds) && one.seconds <= 2.5 * one.limitSeconds, "\(one), \(two)")
    let plain = try launch(batch: 128, on: chip.withoutMatrixUnit)
    #expect(format == .float32 ? plain.seconds == one.seconds : plain.seconds > 4 * one.seconds, "\(plain)")
  }

  /// The published figures: multiply-adds an image, and parameters, in millions.
  @Test(arguments: [(Network.resNet50, 4089.0, 25.5), (.vgg16, 15470, 138.4), (.mobileNetV2, 301, 3.5), (.viTB16, 17564, 86.6)])
  func networksAreWhatTheyAreCalled(_ network: Network, _ millions: Double, _ parameters: Double) throws {
    let graph = try network.graph(batch: 1)
    let products = graph.nodes.filter { $0.operation is Conv2D || $0.operation is MatMul || $0.operation is Attention }
    let flops = products.reduce(0) { $0 + $1.operation.flops($1.inputs.map { graph.type(of: $0) }, graph.type(of: $1.output)) }
    #expect(abs(flops / 2e6 / millions - 1) < 0.01, "\(flops / 2e6) million multiply-adds")
    let weights = graph.values.indices.map(ValueID.init).reduce(0) { $0 + (graph.constant($1)?.elementCount ?? 0) }
    #expect(abs(Double(weights) / 1e6 / parameters - 1) < 0.02, "\(weights) parameters")
  }

  @Test func namesWhatItKnows() {
    let error = #expect(throws: ChipError.self) { try Chip.named("abacus") }
    #expect(error?.description.contains("h200") == true)
  }

  /// On the native CPU with its measured limits: prints what was predicted and what it took.
  @Test func standsBesideTheMeasurement() throws {
    let device = try CPUDevice(threadCount: 1)
    let chip = Chip(device.traits, measured: try DevicePeak.measure(on: device))
    let graph = try Network.mobileNetV2.graph(batch: 1)
    let predicted = try TimePrediction(graph, on: chip)
    let measured = try Plan(graph, device: device).medianProfile(seconds: 0.2).reduce(0) { $0 + $1.seconds }
    print("MobileNetV2 on one thread: \(predicted.seconds * 1e3) ms predicted, \(measured * 1e3) ms measured, \(measured / predicted.seconds) of it")
    #expect(predicted.seconds > 0 && measured > 0)
  }
}
