/// What a program did that a GPU would not have done well with, or what the interpreter does not know.
struct PTXError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
