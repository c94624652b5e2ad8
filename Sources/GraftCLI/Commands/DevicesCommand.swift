import ArgumentParser
import Graft

struct DevicesCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "devices", abstract: "List what there is to compute on.",
    discussion: "The first column is what --device takes. Without an OpenCL driver the list holds the cpu alone, and everything works on it.")

  @OptionGroup var output: OutputOptions

  private struct Row: Encodable {
    let device, name, vendor, driver, kind, family, instructionSet: String
    let isGPU: Bool
    let computeUnits, memoryByteCount, localMemoryByteCount: Int
    let numericFormats: [String]
    let matrixUnit: String?
  }

  private func matrixUnit(_ traits: DeviceTraits) -> String {
    guard traits.family == .gpu else { return "" }
    return "\n  matrix unit    " + (traits.matrixUnit?.description ?? "none: products in tf32 and the shorter formats run at float32's rate")
  }

  func execute() throws {
    let console = output.console
    let all = try Devices.all()
    for traits in all {
      console.result(
        """
        \(traits.identifier)
          name           \(traits.name)
          driver         \(traits.driver)\(traits.vendor.isEmpty ? "" : " (\(traits.vendor))")
          compute units  \(traits.computeUnits)
          memory         \(byteText(traits.memoryByteCount))\(traits.localMemoryByteCount > 0 ? ", local \(byteText(traits.localMemoryByteCount))" : "")
          kernels        \(traits.family.rawValue) family (\(traits.instructionSet))
          formats        \(traits.numericFormats.joined(separator: ", "))\(matrixUnit(traits))
        """)
    }
    if !all.contains(where: { $0.kind == .openCL }) {
      console.note("no OpenCL device: install your GPU's driver (or pocl-opencl-icd) to see one; the cpu needs none")
    }
    try console.object(
      all.map {
        Row(
          device: $0.identifier, name: $0.name, vendor: $0.vendor, driver: $0.driver, kind: $0.kind.rawValue, family: $0.family.rawValue,
          instructionSet: $0.instructionSet, isGPU: $0.isGPU, computeUnits: $0.computeUnits, memoryByteCount: $0.memoryByteCount,
          localMemoryByteCount: $0.localMemoryByteCount, numericFormats: $0.numericFormats, matrixUnit: $0.matrixUnit?.description)
      })
  }
}
