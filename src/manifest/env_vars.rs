//! The variables that `[run] env` must not set: those that comfy sets itself, and those that make a
//! program load or run something else.

/// Variables that a launch sets itself ([`crate::desired::launch`]): a value in comfy.toml would
/// have no effect.
const OWN: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "TMPDIR",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_MODULES_CACHE",
    "HF_HUB_CACHE",
    "HF_XET_CACHE",
    "HF_DATASETS_CACHE",
    "TORCH_HOME",
    "TORCH_EXTENSIONS_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "PYTORCH_KERNEL_CACHE_PATH",
    "TRITON_CACHE_DIR",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "CUDA_CACHE_PATH",
    "CUPY_CACHE_DIR",
    "U2NET_HOME",
];

/// Settings that look like a loader's but are a number or a keyword: mallopt(3), CUDA's "Lazy
/// Loading".
const HARMLESS: &[&str] = &[
    "MALLOC_ARENA_MAX",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "CUDA_MODULE_LOADING",
];

/// Prefixes of variables that load code: Python, the dynamic loaders, glibc (its list of variables
/// that set-uid programs drop, sysdeps/generic/unsecvars.h), OpenSSL, graphics and video drivers,
/// interpreters, git.
const PREFIXES: &[&str] = &[
    "PYTHON",
    "__PYVENV",
    "LD_",
    "DYLD_",
    "GLIBC_",
    "MALLOC_",
    "OPENSSL_",
    "CUDA_INJECTION",
    "NVTX_INJECTION",
    "OMP_TOOL",
    "GTK",
    "GDK_PIXBUF_",
    "QT_",
    "QML",
    "VK_ICD",
    "VK_DRIVER",
    "VK_ADD_DRIVER",
    "VK_LAYER",
    "VK_ADD_LAYER",
    "VK_INSTANCE_LAYERS",
    "VK_LOADER_LAYERS",
    "VK_IMPLICIT_LAYER",
    "VK_ADD_IMPLICIT_LAYER",
    "OCL_ICD_",
    "OPENCL_",
    "LIBGL_",
    "LIBVA_",
    "GBM_BACKEND",
    "VDPAU_DRIVER",
    "__EGL_",
    "__GLX_",
    "GST_",
    "MAGICK_",
    "XPTI_",
    "OMPI_MCA_",
    "PMIX_MCA_",
    "TRITON_PTXAS",
    "TRITON_LIB",
    "NODE_",
    "PERL",
    "RUBY",
    "LUA_",
    "BASH",
    "GIT_",
];

/// Whole names of variables that load code or change what a program reads.
const EXACT: &[&str] = &[
    "GCONV_PATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TZDIR",
    "GI_TYPELIB_PATH",
    "FREI0R_PATH",
    "LADSPA_PATH",
    "LV2_PATH",
    "NUMBA_CUDA_DRIVER",
    "UCX_MODULE_DIR",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "ENV",
    "IFS",
    "PS4",
    "SHELLOPTS",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "CDPATH",
    "TERMINFO",
    "TERMCAP",
    "BROWSER",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
];

/// Words in a name that show that it loads code, whichever program reads it.
const WORDS: &[&str] = &[
    "PLUGIN",
    "PRELOAD",
    "INJECTION",
    "MODULE",
    "TOOL_LIB",
    "TOOLS_LIB",
];

/// Returns why the manifest must not set a variable, and what to do instead.
pub(crate) fn refusal_of(name: &str) -> Option<(&'static str, &'static str)> {
    let upper = name.to_uppercase();
    let is = |list: &[&str]| list.contains(&upper.as_str());
    if is(OWN) {
        return Some(("is set by comfy itself", "leave it out"));
    }
    let loads = is(EXACT)
        || PREFIXES.iter().any(|p| upper.starts_with(p))
        || WORDS.iter().any(|w| upper.contains(w));
    (loads && !is(HARMLESS)).then_some((
        "changes which code is loaded",
        "leave it out; comfy sets what ComfyUI needs",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_of_code_are_refused_and_tuning_is_not() {
        let loaders =
            "PYTHONPATH PYTHONSTARTUP __PYVENV_LAUNCHER__ LD_PRELOAD ld_preload LD_AUDIT \
            DYLD_INSERT_LIBRARIES GLIBC_TUNABLES MALLOC_CHECK_ GCONV_PATH LOCPATH NLSPATH
            OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES CUDA_INJECTION32_PATH \
            CUDA_INJECTION64_PATH NVTX_INJECTION64_PATH OMP_TOOL_LIBRARIES HSA_TOOLS_LIB
            GIO_EXTRA_MODULES GTK_MODULES GTK_PATH GDK_PIXBUF_MODULE_FILE QT_PLUGIN_PATH \
            VK_ICD_FILENAMES VK_DRIVER_FILES VK_LAYER_PATH VK_INSTANCE_LAYERS
            VK_ADD_LAYER_PATH VK_LOADER_LAYERS_ENABLE OCL_ICD_VENDORS OCL_ICD_FILENAMES \
            LIBGL_DRIVERS_PATH LIBVA_DRIVERS_PATH GST_PLUGIN_PATH NCCL_NET_PLUGIN
            NODE_OPTIONS PERL5LIB PERL5OPT PERLLIB RUBYOPT RUBYLIB BASH_ENV ENV PROMPT_COMMAND \
            GIT_SSH_COMMAND XDG_DATA_DIRS JAVA_TOOL_OPTIONS BROWSER";
        for name in loaders.split_whitespace() {
            assert_eq!(
                refusal_of(name).map(|r| r.0),
                Some("changes which code is loaded"),
                "{name}"
            );
        }
        let tuning = "OMP_NUM_THREADS PYTORCH_CUDA_ALLOC_CONF PYTORCH_MPS_HIGH_WATERMARK_RATIO \
             CUDA_VISIBLE_DEVICES CUDA_MODULE_LOADING HSA_OVERRIDE_GFX_VERSION
            MALLOC_ARENA_MAX MALLOC_TRIM_THRESHOLD_ TOKENIZERS_PARALLELISM HF_HUB_OFFLINE TZ \
             LC_ALL NVIDIA_TF32_OVERRIDE CUBLAS_WORKSPACE_CONFIG MKL_NUM_THREADS
            COMFYUI_MODE XFORMERS_DISABLED SSL_CERT_FILE DO_NOT_TRACK TORCH_CUDNN_V8_API_ENABLED \
             TRITON_DISABLE_LINE_INFO NCCL_DEBUG";
        for name in tuning.split_whitespace() {
            assert_eq!(refusal_of(name), None, "{name}");
        }
    }
}
