fn main() -> std::process::ExitCode {
    comfy::cli::main()
}
