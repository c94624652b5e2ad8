import GraftDevice
import Testing

struct OpenCLSelectionTests {
  private static func candidate(
    _ index: Int, gpu: Bool, gibibytes: Int = 8, units: Int = 16, obstacle: String? = nil, vendor: String = "", integrated: Bool = false,
    address: String? = nil, driver: String = ""
  ) -> DeviceSelection.Candidate {
    var traits = DeviceTraits(
      kind: .openCL, identifier: "opencl:\(index)", name: gpu ? "Gee Pee" : "See Pee", vendor: vendor, driver: driver, family: gpu ? .gpu : .cpu,
      computeUnits: units, memoryByteCount: gibibytes << 30, maximumBufferByteCount: 1 << 30, localMemoryByteCount: 32768,
      maximumWorkGroupSize: 256, vectorWidth: 8, panelVectors: 2, instructionSet: "", numericFormats: [], isGPU: gpu, threadCount: 0)
    (traits.sharesHostMemory, traits.busAddress) = (integrated, address)
    return DeviceSelection.Candidate(traits: traits, obstacle: obstacle)
  }

  private static let pocl = candidate(0, gpu: false, gibibytes: 64, units: 64)
  private static let small = candidate(1, gpu: true)
  private static let large = candidate(2, gpu: true, gibibytes: 16)
  private static let ancient = candidate(3, gpu: true, gibibytes: 96, obstacle: "it is OpenCL 1.1")
  private static let machine = [pocl, small, large, ancient]

  @Test(arguments: [
    ("auto", KernelChoice.auto, DeviceSelection.openCL(index: 2, family: .gpu)),
    ("auto", .cpu, .openCL(index: 2, family: .cpu)),
    ("opencl", .auto, .openCL(index: 2, family: .gpu)),
    ("opencl:0", .auto, .openCL(index: 0, family: .cpu)),
    ("opencl:0", .gpu, .openCL(index: 0, family: .gpu)),
    ("opencl:1", .auto, .openCL(index: 1, family: .gpu)),
    ("cpu", .auto, .cpu),
    ("cpu", .cpu, .cpu),
  ]) func choicesThatCanBeHad(_ text: String, _ kernels: KernelChoice, _ expected: DeviceSelection) throws {
    #expect(try DeviceSelection.select(text, kernels: kernels, among: Self.machine) == expected)
  }

  @Test(arguments: [
    ("opencl:1,opencl:2", [DeviceSelection.openCL(index: 1, family: .gpu), .openCL(index: 2, family: .gpu)]),
    ("opencl:2, opencl:0,cpu", [.openCL(index: 2, family: .gpu), .openCL(index: 0, family: .cpu), .cpu]),
    ("all-gpus", [.openCL(index: 1, family: .gpu), .openCL(index: 2, family: .gpu)]),
    ("opencl:1", [.openCL(index: 1, family: .gpu)]),
  ]) func severalDevices(_ text: String, _ expected: [DeviceSelection]) throws {
    #expect(try DeviceSelection.selectSeveral(text, kernels: .auto, among: Self.machine) == expected)
  }

  /// An integrated GPU reports the machine's memory for its own, and Intel's vector engines are not multiprocessors.
  @Test func aCardIsTakenBeforeAnIntegratedGPU() throws {
    let integrated = Self.candidate(0, gpu: true, gibibytes: 26, units: 32, vendor: "Intel(R) Corporation", integrated: true)
    let card = Self.candidate(1, gpu: true, gibibytes: 8, units: 20, vendor: "NVIDIA Corporation")
    #expect(try DeviceSelection.select("auto", kernels: .auto, among: [integrated, card]) == .openCL(index: 1, family: .gpu))
    #expect(try DeviceSelection.select("auto", kernels: .auto, among: [integrated]) == .openCL(index: 0, family: .gpu))
    let arc = Self.candidate(2, gpu: true, gibibytes: 16, units: 512, vendor: "Intel(R) Corporation")
    let larger = Self.candidate(3, gpu: true, gibibytes: 12, units: 46, vendor: "NVIDIA Corporation")
    #expect(arc.traits.multiprocessors == 32 && larger.traits.multiprocessors == 46)
    #expect(try DeviceSelection.select("auto", kernels: .auto, among: [arc, larger]) == .openCL(index: 1, family: .gpu))
  }

  @Test func aGPUThatTwoDriversListIsOne() throws {
    let twice = [
      Self.candidate(0, gpu: true, address: "0000:03:00.0", driver: "vendor 1"),
      Self.candidate(1, gpu: true, address: "0000:03:00.0", driver: "rusticl"),
    ]
    let other = [Self.candidate(2, gpu: true, address: "0000:83:00.0"), Self.candidate(3, gpu: true), Self.candidate(4, gpu: true)]
    let found = try DeviceSelection.selectSeveral("all-gpus", kernels: .auto, among: twice + other)
    #expect(found == [0, 2, 3, 4].map { .openCL(index: $0, family: .gpu) })
  }

  /// A driver that does not tell the domains of addresses apart.
  @Test func devicesOfOneDriverAreSeveral() throws {
    let nodes = (0..<4).map { Self.candidate($0, gpu: true, address: "0000:02:00.0", driver: "AMD 1") }
    let found = try DeviceSelection.selectSeveral("all-gpus", kernels: .auto, among: nodes)
    #expect(found == (0..<4).map { .openCL(index: $0, family: .gpu) })
  }

  @Test(arguments: [
    ("opencl:1,opencl:1", "the same device twice"), ("auto,opencl:2", "the same device twice"), ("opencl:1,", "a name is missing"),
    (",", "a name is missing"), ("opencl:1,opencl:3", "'opencl:3': Gee Pee cannot be used"), ("opencl:1,all-gpus", "'all-gpus': "),
    ("opencl:1;opencl:2", "that is no device"),
  ]) func severalDevicesThatCannotBeHad(_ text: String, _ words: String) {
    #expect {
      try DeviceSelection.selectSeveral(text, kernels: .auto, among: Self.machine)
    } throws: {
      "\($0)".contains("--device \(text):") && "\($0)".contains(words) && "\($0)".contains("opencl:2 Gee Pee")
    }
  }

  @Test func severalWhereOneIsMeantOrNoneIsThere() {
    for text in ["opencl:1,opencl:2", "all-gpus"] {
      #expect { try DeviceSelection.select(text, kernels: .auto, among: Self.machine) } throws: { "\($0)".contains("'graft extract'") }
    }
    #expect { try DeviceSelection.selectSeveral("all-gpus", kernels: .auto, among: [Self.pocl]) } throws: { "\($0)".contains("there is no GPU") }
  }

  @Test func withoutAGPUAutoIsTheCPU() throws {
    #expect(try DeviceSelection.select("auto", kernels: .auto, among: []) == .cpu)
    #expect(try DeviceSelection.select("auto", kernels: .auto, among: [Self.pocl]) == .cpu)
    #expect(try DeviceSelection.select("opencl", kernels: .auto, among: [Self.pocl]) == .openCL(index: 0, family: .cpu))
  }

  @Test(arguments: [
    ("cpu", KernelChoice.gpu, "--kernels gpu"), ("opencl:4", .auto, "no OpenCL device of that index"), ("opencl:-1", .auto, "of that index"),
    ("opencl:3", .auto, "OpenCL 1.1"), ("opencl:", .auto, "opencl:INDEX"), ("opencl:x", .auto, "opencl:INDEX"), ("gpu", .auto, "opencl:INDEX"),
    ("", .auto, "opencl:INDEX"), ("opencl:99999999999999999999", .auto, "opencl:INDEX"),
  ]) func choicesThatCannotBeHadSayWhatThereIs(_ text: String, _ kernels: KernelChoice, _ words: String) {
    #expect { try DeviceSelection.select(text, kernels: kernels, among: Self.machine) } throws: {
      let message = "\($0)"
      return $0 is DeviceChoiceError && message.contains(words) && message.contains("opencl:2 Gee Pee") && message.contains("  cpu\n")
    }
  }

  @Test func noDeviceIsNeverAnother() {
    for (text, kernels) in [("opencl", KernelChoice.auto), ("opencl:0", .auto), ("auto", .gpu)] {
      #expect(throws: DeviceChoiceError.self) { try DeviceSelection.select(text, kernels: kernels, among: []) }
    }
    #expect(throws: DeviceChoiceError.self) { try DeviceSelection.select("auto", kernels: .gpu, among: [Self.pocl]) }
  }

  @Test func thisMachineHasItsCPU() throws {
    let all = try Devices.all()
    #expect(all.first?.identifier == "cpu")
    #expect(try Devices.choose("cpu").traits.kind == .cpu)
    #expect(throws: DeviceChoiceError.self) { try Devices.choose("opencl:1000") }
  }

  @Test(.needsOpenCL) func aForcedFamilyIsTheDevicesFamily() throws {
    let index = try #require(try OpenCLPlatform.devices().firstIndex { $0.obstacle == nil })
    for (kernels, family) in [(KernelChoice.gpu, KernelFamily.gpu), (.cpu, .cpu)] {
      let device = try Devices.choose("opencl:\(index)", kernels: kernels)
      #expect(device.traits.family == family)
      #expect(device.traits.identifier == "opencl:\(index)")
    }
  }

  @Test(.needsOpenCL, arguments: OpenCLSupport.infos.indices) func traitsAreFilled(_ index: Int) {
    let traits = OpenCLSupport.infos[index].traits()
    #expect(!traits.name.isEmpty && !traits.driver.isEmpty && !traits.instructionSet.isEmpty)
    #expect(traits.computeUnits > 0 && traits.memoryByteCount > 0 && traits.maximumWorkGroupSize > 0)
    #expect(traits.maximumBufferByteCount > 0 && traits.maximumBufferByteCount <= traits.memoryByteCount)
    #expect([4, 8, 16].contains(traits.vectorWidth))
    // What its kernels know comes first, then what else the device can do.
    let known = traits.family == .cpu ? ["float32", "bfloat16 (converted)", "float16 (converted)"] : ["float32"]
    #expect(traits.numericFormats.starts(with: known))
    #expect(traits.kind == .openCL && traits.isGPU == OpenCLSupport.infos[index].isGPU)
  }
}
