<#
.SYNOPSIS
Prepares this folder for `docker compose up`: .env with secrets, the host's folders, an empty registry.

.DESCRIPTION
Run it again whenever you like: what is there stays as it is, what is missing is made. No secret is printed.

.PARAMETER Gpu
The server on a GPU (Docker Desktop with WSL 2 and NVIDIA's driver for Windows).

.EXAMPLE
powershell -ExecutionPolicy Bypass -File init.ps1
#>
param([switch]$Gpu)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
Set-Location -LiteralPath $PSScriptRoot
$file = Join-Path $PSScriptRoot '.env'

function Get-Value([string]$Name) {
    foreach ($line in [IO.File]::ReadAllLines($file)) {
        if ($line.StartsWith("$Name=")) { return $line.Substring($Name.Length + 1) }
    }
    return $null
}

function Set-Value([string]$Name, [string]$Value) {
    $found = $false
    $lines = foreach ($line in [IO.File]::ReadAllLines($file)) {
        if ($line.StartsWith("$Name=")) {
            $found = $true
            "$Name=$Value"
        }
        else { $line }
    }
    if (-not $found) { $lines = @($lines) + "$Name=$Value" }
    # Lines end as on Linux, and there is no byte order mark: compose reads both into the values.
    $text = (@($lines) -join "`n") + "`n"
    [IO.File]::WriteAllText($file, $text, (New-Object Text.UTF8Encoding $false))
}

function New-Secret {
    $bytes = New-Object byte[] 16
    $generator = [Security.Cryptography.RandomNumberGenerator]::Create()
    $generator.GetBytes($bytes)
    $generator.Dispose()
    return -join ($bytes | ForEach-Object { $_.ToString('x2') })
}

if (Test-Path -LiteralPath $file) {
    # An .env of an older version: what it lacks keeps the meaning it had.
    foreach ($line in [IO.File]::ReadAllLines((Join-Path $PSScriptRoot '.env.example'))) {
        if ($line -match '^([A-Z][A-Z0-9_]*)=(.*)$' -and $Matches[1] -ne 'OUTCROP_TOKEN') {
            $name = $Matches[1]
            $default = $Matches[2]
            if ($null -eq (Get-Value $name)) {
                if ($name -eq 'COMPOSE_PROFILES') { $default = '' }
                Set-Value $name $default
                Write-Output "added to .env: $name"
            }
        }
    }
}
else {
    Copy-Item -LiteralPath (Join-Path $PSScriptRoot '.env.example') -Destination $file
    if ($Gpu) { Set-Value 'COMPOSE_PROFILES' 'gpu' }
    $cores = [string][Environment]::ProcessorCount
    Set-Value 'MILVUS_CPUS' $cores
    Set-Value 'APP_CPUS' $cores
    Write-Output "made .env (profile $(Get-Value 'COMPOSE_PROFILES'))"
}
# Before a secret is written: nobody but you may read the file.
if ($env:OS -eq 'Windows_NT') {
    & icacls.exe $file /inheritance:r /grant:r "$($env:USERNAME):(F)" | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "icacls could not restrict $file to $($env:USERNAME)" }
}
else {
    & chmod 600 $file
}
foreach ($name in 'MILVUS_ROOT_PASSWORD', 'MILVUS_USER_PASSWORD', 'S3_ACCESS_KEY', 'S3_SECRET_KEY', 'SERVE_TOKEN') {
    if (-not (Get-Value $name)) {
        Set-Value $name (New-Secret)
        Write-Output "made a secret in .env, which only you can read: $name"
    }
}

foreach ($name in 'DATASET_HOST', 'REFERENCE_HOST', 'EXPORT_HOST', 'QUERY_HOST', 'WEIGHTS_HOST', 'TLS_HOST', 'CLIENT_TLS_HOST') {
    $folder = Get-Value $name
    if (-not (Test-Path -LiteralPath $folder)) {
        New-Item -ItemType Directory -Path $folder | Out-Null
        Write-Output "made a folder: $folder"
    }
}
$registry = Get-Value 'REGISTRY_HOST'
if (-not (Test-Path -LiteralPath $registry)) {
    $whole = [IO.Path]::GetFullPath([IO.Path]::Combine($PSScriptRoot, $registry))
    New-Item -ItemType Directory -Force -Path (Split-Path -Parent $whole) | Out-Null
    [IO.File]::WriteAllText($whole, "{`n  `"datasets`": {}`n}`n", (New-Object Text.UTF8Encoding $false))
    Write-Output "made an empty registry: $registry"
}

$app = 'app-cpu'
if ((Get-Value 'COMPOSE_PROFILES') -match 'gpu') { $app = 'app' }
Write-Output @"

Next, in ${PSScriptRoot}:
  1. docker compose build $app          builds Outcrop's image; docs/operations.md says how large it is
  2. docker compose run --rm demo          first look: a small world, without a server; then open $(Get-Value 'EXPORT_HOST')/demo/report.html
  3. docker compose up -d --wait           starts Milvus
  4. docker compose run --rm milvus-user   makes Outcrop's own user in Milvus (once)
  5. A folder of photographs, with any names, into $(Get-Value 'DATASET_HOST'), say as photos
  6. docker compose run --rm $app ingest images /opt/datasets/photos
     What should have captures, altitudes and names of its own goes into $registry ("Your own pictures" in README.md).
  7. A photograph into $(Get-Value 'QUERY_HOST'), then: docker compose run --rm $app query image /queries/photo.jpg --report /exports/report.html

Weights: those of efficientnet_lite0, the model in .env, come with the image. DINOv3 and DINOv2 see more; they are published by Meta,
under licences that you accept there. Put the files into $(Get-Value 'WEIGHTS_HOST') as they come, and name the model in OUTCROP_MODEL
of .env before the first ingest (docs/models.md).
"@
